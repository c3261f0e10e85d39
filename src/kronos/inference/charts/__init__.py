"""Pictures of a forecast: ``scene`` says what is shown, ``html`` and ``png`` draw it."""
