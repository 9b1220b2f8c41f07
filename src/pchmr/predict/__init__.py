"""Photos and videos in, people out: finds, predicts, refines, follows, writes."""
