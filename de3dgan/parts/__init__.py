"""What others use in code of their own, without the scripts: networks, and the Hub."""
