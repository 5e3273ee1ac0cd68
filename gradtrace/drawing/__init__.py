"""Pictures in DOT: cards, colours, columns and lines; what the formats of a picture share."""
