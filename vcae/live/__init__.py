"""Live conversion between a microphone and a loudspeaker."""
