"""Assets: what is downloaded once, how it is verified, unpacked and brought into the formats of the stages."""
