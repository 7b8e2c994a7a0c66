"""AWQ as a plugin of nncf-core: channels scaled so that low-bit weights lose less."""
