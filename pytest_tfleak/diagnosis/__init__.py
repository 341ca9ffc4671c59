"""What a leak is made of; runs only after a LEAK verdict."""
