"""The HTTP skin: parse, authorise, call the flow, render. No rule lives here."""
