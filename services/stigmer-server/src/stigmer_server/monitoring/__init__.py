"""What a server says of itself: how its parts are, and what it counts."""
