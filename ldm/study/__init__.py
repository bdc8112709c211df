"""Preference studies: blinded forced choices between two pictures, the page that shows them, and their scoring."""
