// Answers one line of JSON {"pattern": text, "event": text} with one line: true, false, or why the pattern is refused.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import software.amazon.event.ruler.Machine;

public class Match {
  public static void main(String[] arguments) throws Exception {
    ObjectMapper json = new ObjectMapper();
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonNode question = json.readTree(line);
      System.out.println(answer(question.get("pattern").textValue(), question.get("event").textValue()));
    }
  }

  private static String answer(String pattern, String event) {
    Machine machine = new Machine();
    try {
      machine.addRule("rule", pattern);
    } catch (Exception refusal) {
      return "refused: " + refusal.getMessage().split("\n")[0];
    }
    try {
      return String.valueOf(!machine.rulesForJSONEvent(event).isEmpty());
    } catch (Exception trouble) {
      return "trouble: " + trouble.getMessage().split("\n")[0];
    }
  }
}
