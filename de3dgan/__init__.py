"""What the stage scripts of DE-3DGAN share."""
