"""The networks and data of the course note, and training steps of any network."""
