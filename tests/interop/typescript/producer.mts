// A producer in TypeScript: prints a job of every type and shape, one a line, for BullMQ's `Queue.add`.

import type {
  Allocation,
  AnyTask,
  EmailSend,
  FlatRun,
  FlatSwarm,
  RunConfig,
  RunStart,
  SessionUser,
  SwarmExecution,
  TaskOf,
  TaskType,
} from "./fleet-tasks.js";

interface Job {
  queue: string;
  data: AnyTask;
}

const userData: SessionUser = {
  __typename: "SessionUser",
  id: "100000000000000001",
  credits: "1000000000000000000000",
  hasPremium: true,
  languages: ["en"],
  creditAccountId: null,
};
const allocation: Allocation = {
  maxCredits: "unlimited",
  maxDurationMs: 60_000,
  maxMemoryMB: 256,
  maxConcurrentSteps: 1,
};
const config: RunConfig = {
  isPrivate: true,
  limits: { maxCredits: "50000", onMaxCredits: "Pause" },
  onBranchFailure: "Stop",
};

const mail: EmailSend = {
  type: "email-send",
  id: "u1:reset-password",
  to: ["dana@example.com"],
  subject: "Hello",
  text: "…",
};
const template: EmailSend = {
  type: "email-send",
  idempotencyKey: "welcome-u1",
  to: ["Dana <dana@example.com>"],
  template: "welcome",
  data: { name: "Dana", visits: [1, 2] },
};
const swarm: SwarmExecution = {
  type: "swarm-execution",
  id: "s1",
  status: "Scheduled",
  context: { swarmId: "s1", userData, timestamp: new Date(0).toISOString() },
  input: { goal: "Plan it", userData, availableTools: [{ name: "search" }], executionConfig: { temperature: 0.7 } },
  allocation,
  options: { priority: "high", retryPolicy: { maxRetries: 3 } },
};
const flatSwarm: FlatSwarm = {
  type: "swarm-execution",
  id: "s2",
  swarmId: "s2",
  userData,
  config: { goal: "Plan it", resources: { maxCredits: 100, tools: [] }, config: { model: "m" } },
};
const run: RunStart = {
  type: "run-start",
  id: "r1",
  schemaVersion: 1,
  context: { swarmId: null, userData },
  input: { runId: "run-1", resourceVersionId: "2", isNewRun: true, config, formValues: { any: [{ thing: null }] } },
  allocation: null,
};
const flatRun: FlatRun = { type: "run-start", id: "r2", runId: "3", resourceVersionId: "2", isNewRun: false, userData };

// One of each type: a type that is added and missing here doesn't compile.
const others: { [T in Exclude<TaskType, "email-send" | "swarm-execution" | "run-start">]: TaskOf<T> } = {
  "llm-completion": {
    type: "llm-completion",
    id: "100000000000000002",
    chatId: "c",
    messageId: "m",
    userData,
    taskContexts: [{ id: "1", label: "a file", data: { deep: [1] } }],
    respondingBot: { handle: "bot" },
    allocation,
  },
  "push-notification": {
    type: "push-notification",
    id: "p1",
    subscription: { endpoint: "https://push.example.com/1", keys: { p256dh: "BA", auth: "AA" } },
    payload: { body: "Hello", icon: null },
  },
  "sms-message": {
    type: "sms-message",
    id: "+15555550123-123456",
    to: ["+15555550123"],
    body: "123456",
    timeout: 45_000,
  },
  "notification-create": {
    type: "notification-create",
    id: "100000000000000003",
    userId: "1",
    category: "Run",
    title: "",
  },
  "sandbox-execution": { type: "sandbox-execution", id: "x1", codeVersionId: "5", userData, input: { a: [1] } },
  "export-user-data": {
    type: "export-user-data",
    id: "e1",
    config: { __type: "User", userId: "1", flags: { all: true }, afterExport: "NoAction", downloadable: true },
  },
  "import-user-data": {
    type: "import-user-data",
    id: "i1",
    data: {
      __exportedAt: new Date(0).toISOString(),
      __signature: "",
      __source: "here",
      __version: "1.0.0",
      data: [{ __version: "1.0.0", __typename: "Resource", shape: { versions: [] } }],
    },
    config: {
      allowForeignData: true,
      assignObjectsTo: { __typename: "User", id: "1" },
      onConflict: "skip",
      userData: { id: "1", languages: ["en"] },
      isSeeding: false,
    },
  },
};

/** The queue of a task: a swarm goes into that of the completions. */
function queueOf(task: AnyTask): string {
  switch (task.type) {
    case "swarm-execution":
      return "llm-completion";
    case "email-send":
      return task.to.length > 0 ? task.type : "nobody";
    default:
      return task.type;
  }
}

const all: AnyTask[] = [mail, template, swarm, flatSwarm, run, flatRun, ...Object.values(others)];
for (const data of all) {
  const job: Job = { queue: queueOf(data), data };
  console.log(JSON.stringify(job));
}
