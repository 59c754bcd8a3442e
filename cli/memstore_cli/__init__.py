"""The one command, `memstore`: a skin over the library, one file a verb."""
