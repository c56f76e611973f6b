"""Small datasets made from data inside Python packages; nothing is downloaded."""
