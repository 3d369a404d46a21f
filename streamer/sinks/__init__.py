"""The outputs of a night: MQTT, Home Assistant, LSL, terminal, log, files, a serial port."""
