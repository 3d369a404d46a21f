"""Where samples come from: recordings, simulated nights, live devices."""
