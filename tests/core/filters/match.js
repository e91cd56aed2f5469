// Answers one line of JSON {"schema": ..., "input": ...} with one line: whether simple-json-match finds a match.
// The folder that it is installed in is the only argument.
const path = require("path");
const readline = require("readline");

const match = require(path.join(process.argv[2], "node_modules", "simple-json-match")).default;

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { schema, input } = JSON.parse(line);
  console.log(match(input, schema));
});
