"""What engines share that another process samples for: a call's requests, servers and their load, weights."""
