"""Whoever hears of a night: MQTT, Home Assistant, LSL, files, a serial port."""
