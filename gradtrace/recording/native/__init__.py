"""C sources, each named as its Python twin in another room, and the loader of the compiled module."""
