"""What of a client's data can be found in what left it: the tripwire."""
