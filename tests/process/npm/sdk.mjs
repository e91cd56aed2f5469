// Drives a running server through every method of @hookdeck/outpost-sdk and asserts on what comes back.
//
//   node sdk.mjs FOLDER SERVER_URL API_KEY RECEIVER_URL
//
// FOLDER is where the package is installed. Prints the methods that were called, and fails if one was not.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const [folder, serverUrl, apiKey, receiver] = process.argv.slice(2);
const { Outpost } = createRequire(path.join(folder, "package.json"))("@hookdeck/outpost-sdk");

const HOUR = 3_600_000;
const called = new Set();

/** A client whose calls are remembered as `noun.method`. */
function client(credential) {
  const outpost = new Outpost({ apiKey: credential, serverURL: `${serverUrl}/api/v1` });
  return remembering(outpost, "");
}

function remembering(target, prefix) {
  return new Proxy(target, {
    get(object, name) {
      const value = object[name];
      if (typeof value === "function") {
        called.add(prefix + name);
        return value.bind(object);
      }
      return value !== null && typeof value === "object" ? remembering(value, `${name}.`) : value;
    },
  });
}

/** Every public method of the SDK as `noun.method`. */
function methods() {
  const outpost = new Outpost({ apiKey });
  const own = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(outpost));
  return Object.entries(own).flatMap(([noun, { get, value }]) => {
    if (noun === "constructor") return [];
    if (value !== undefined) return [noun];
    const names = Object.getOwnPropertyNames(Object.getPrototypeOf(get.call(outpost)));
    return names.filter((name) => name !== "constructor").map((name) => `${noun}.${name}`);
  });
}

async function eventually(question, enough) {
  const deadline = Date.now() + 15_000;
  for (;;) {
    const found = await question();
    if (enough(found)) return found;
    assert.ok(Date.now() < deadline, JSON.stringify(found));
    await sleep(50);
  }
}

/** The call is refused with this HTTP status. */
async function refused(status, call) {
  await assert.rejects(call, (error) => error.statusCode === status);
}

const outpost = client(apiKey);

async function tenants() {
  const made = await outpost.tenants.upsert("acme", { metadata: { plan: "pro" } });
  assert.deepEqual([made.id, made.metadata, made.destinationsCount], ["acme", { plan: "pro" }, 0]);
  await outpost.tenants.upsert("gone");
  assert.equal((await outpost.tenants.get("acme")).metadata.plan, "pro");
  const first = await outpost.tenants.list({ limit: 1 });
  assert.deepEqual([first.count, first.models.map((tenant) => tenant.id)], [2, ["gone"]]);
  const rest = await outpost.tenants.list({ limit: 1, next: first.pagination.next });
  assert.deepEqual([rest.models[0].id, rest.pagination.next], ["acme", null]);
  assert.equal((await outpost.tenants.getPortalUrl("acme")).tenantId, "acme");
  assert.ok((await outpost.tenants.delete("gone")).success);
  await refused(404, () => outpost.tenants.get("gone"));

  const own = client((await outpost.tenants.getToken("acme")).token);
  assert.deepEqual((await own.tenants.list({})).models.map((tenant) => tenant.id), ["acme"]);
  await refused(403, () => own.publish({ tenantId: "acme", topic: "user.created", data: {} }));
  await refused(401, () => client("wrong").tenants.get("acme"));
}

async function destinations() {
  const body = { type: "webhook", topics: ["user.created"], config: { url: receiver }, metadata: { team: "x" } };
  const made = await outpost.destinations.create("acme", body);
  assert.deepEqual([made.type, made.topics, made.config.url], ["webhook", ["user.created"], receiver]);
  assert.deepEqual(await outpost.destinations.get("acme", made.id), made);
  assert.deepEqual(await outpost.destinations.list("acme", "webhook", ["user.created"]), [made]);
  assert.deepEqual(await outpost.destinations.list("acme", undefined, "user.deleted"), []);
  assert.ok((await outpost.destinations.disable("acme", made.id)).disabledAt instanceof Date);
  assert.equal((await outpost.destinations.enable("acme", made.id)).disabledAt, null);
  const changed = await outpost.destinations.update("acme", made.id, {
    type: "webhook",
    topics: "*",
    filter: { data: { user: { $gte: 1 } } },
    metadata: { team: "y" },
  });
  assert.deepEqual([changed.topics, changed.metadata], [["*"], { team: "y" }]);
  const spare = await outpost.destinations.create("acme", body);
  assert.ok((await outpost.destinations.delete("acme", spare.id)).success);
  await refused(404, () => outpost.destinations.get("acme", spare.id));
  return made.id;
}

async function delivery(destinationId) {
  const event = { id: "evt_1", tenantId: "acme", topic: "user.created", metadata: { source: "crm" }, data: { user: 1 } };
  const published = await outpost.publish(event);
  assert.deepEqual([published.id, published.duplicate, published.destinationIds], ["evt_1", false, [destinationId]]);
  assert.ok((await outpost.publish(event)).duplicate);
  await refused(422, () => outpost.publish({ ...event, id: "evt_2", topic: "unknown" }));

  const kept = await outpost.events.get("evt_1", "acme");
  assert.deepEqual([kept.data, kept.metadata, kept.matchedDestinationIds], [{ user: 1 }, { source: "crm" }, [destinationId]]);
  const listed = await outpost.events.list({ topic: ["user.created"], time: { gte: new Date(Date.now() - HOUR) } });
  assert.deepEqual(listed.models.map((found) => found.id), ["evt_1"]);

  const include = ["event.data", "response_data", "destination"];
  const [attempt] = await eventually(
    async () => (await outpost.attempts.list({ tenantId: "acme", status: "success", include })).models,
    (found) => found.length === 1,
  );
  assert.deepEqual([attempt.code, attempt.attemptNumber, attempt.manual], ["200", 1, false]);
  assert.deepEqual([attempt.event.data, attempt.responseData.status_code], [{ user: 1 }, 200]);
  assert.equal((await outpost.attempts.get(attempt.id, "acme", "event")).eventId, "evt_1");

  assert.ok((await outpost.retry({ eventId: "evt_1", destinationId })).success);
  const scope = { tenantId: "acme", destinationId };
  const attempts = await eventually(
    async () => (await outpost.destinations.listAttempts(scope)).models,
    (found) => found.length === 2,
  );
  assert.deepEqual(attempts.map((made) => made.manual), [true, false]);
  assert.ok((await outpost.destinations.getAttempt("acme", destinationId, attempts[0].id)).manual);
}

async function metrics(destinationId) {
  const time = { start: new Date(Date.now() - HOUR), end: new Date(Date.now() + HOUR) };
  const events = await outpost.metrics.getEventMetrics({
    time,
    granularity: "1h",
    measures: ["count", "rate"],
    dimensions: ["topic"],
    filtersDestinationId: [destinationId],
    filtersTenantId: "acme",
  });
  assert.equal(events.data.reduce((sum, point) => sum + point.metrics.count, 0), 1);
  assert.ok(events.data.every((point) => point.timeBucket instanceof Date && point.dimensions.topic === "user.created"));
  assert.equal(events.metadata.granularity, "1h");

  const attempts = await outpost.metrics.getAttemptMetrics({
    time,
    measures: ["count", "successful_count", "error_rate", "manual_retry_count", "avg_attempt_number"],
    dimensions: ["destination_type", "status", "code", "manual", "attempt_number"],
    filtersDestinationId: destinationId,
    filtersStatus: "success",
    filtersAttemptNumber: ["1", "2"],
  });
  const alike = { destination_type: "webhook", status: "success", code: "200" };
  const sums = { count: 1, successful_count: 1, error_rate: 0 };
  assert.deepEqual(attempts.data, [
    {
      dimensions: { ...alike, manual: "false", attempt_number: "1" },
      metrics: { ...sums, manual_retry_count: 0, avg_attempt_number: 1 },
    },
    {
      dimensions: { ...alike, manual: "true", attempt_number: "2" },
      metrics: { ...sums, manual_retry_count: 1, avg_attempt_number: 2 },
    },
  ]);
  await refused(400, () => outpost.metrics.getEventMetrics({ time, measures: "count", granularity: "25h" }));

  const own = client((await outpost.tenants.getToken("acme")).token);
  const [all] = (await own.metrics.getEventMetrics({ time, measures: "count" })).data;
  assert.deepEqual(all, { dimensions: {}, metrics: { count: 1 } });
  await refused(403, () => own.metrics.getEventMetrics({ time, measures: "count", dimensions: "tenant_id" }));
}

async function server() {
  assert.deepEqual(await outpost.topics.list(), ["user.created", "user.deleted"]);
  assert.equal((await outpost.schemas.getDestinationType("webhook")).type, "webhook");
  const types = (await outpost.schemas.listDestinationTypes()).map((kind) => kind.type);
  assert.ok(["webhook", "aws_sqs", "rabbitmq"].every((type) => types.includes(type)));
  assert.equal((await outpost.health.check()).status, "healthy");
  // of Hookdeck's managed service only: an Outpost that one runs oneself does not have it either
  await refused(404, () => outpost.configuration.getManagedConfig());
  await refused(404, () => outpost.configuration.updateManagedConfig({}));
}

await tenants();
const destinationId = await destinations();
await delivery(destinationId);
await metrics(destinationId);
await server();

const all = methods();
assert.deepEqual(all.filter((method) => !called.has(method)), []);
console.log(JSON.stringify(all));
