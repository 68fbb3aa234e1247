"""Imports the module beside it, and says where that came from."""

import mirrored_neighbour

print(mirrored_neighbour.WORD)
