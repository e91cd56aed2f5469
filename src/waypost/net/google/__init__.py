"""Google Cloud over HTTP, without its libraries."""
