"""The same forecast over many series: in this process, or on the workers of a Ray cluster."""
