"""Where stages go: MQTT, files."""
