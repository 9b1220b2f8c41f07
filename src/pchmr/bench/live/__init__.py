"""What the live and review pages promise, measured in a headless Chromium."""
