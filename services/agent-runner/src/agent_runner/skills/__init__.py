"""Skills: fetched by their hash, unpacked once, offered by name and description, and read on demand."""
