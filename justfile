# The verbs of ./run under the name some hands type first. Nothing is decided here.

set positional-arguments

_default:
    @just --list

# Start a server and a receiver, publish one event, show its delivery
demo *args:
    @./run demo "$@"

# Start the server
serve *args:
    @./run serve "$@"

# Any other command of the waypost program
waypost *args:
    @./run waypost "$@"

# The inner loop: lint, types, layers, quick tests
check *args:
    @./run check "$@"

# Everything that CI runs
test *args:
    @./run test "$@"
