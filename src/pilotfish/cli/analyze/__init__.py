"""`pilotfish analyze`: what is wrong with files and with what the API has."""
