"""What the source `bids` makes of a BIDS data set: settings, tables and trials."""
