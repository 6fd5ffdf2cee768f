// Generated from the models in tasks/ by `fleet schema typescript --write`; not edited by hand.
// What types can't say is in comments. A number without bounds there is one that JavaScript holds exactly: at most
// Number.MAX_SAFE_INTEGER, at least Number.MIN_SAFE_INTEGER.

/** The data of a job, told apart by `type`. */
export type AnyTask =
  | EmailSend
  | ExportUserData
  | ImportUserData
  | LlmCompletion
  | NotificationCreate
  | PushNotification
  | AnyRunStart
  | SandboxExecution
  | SmsMessage
  | AnySwarmExecution;

/** What `data.type` may be. */
export type TaskType = AnyTask["type"];

/** The data of a job of one type: `TaskOf<"email-send">`. */
export type TaskOf<T extends TaskType> = Extract<AnyTask, { type: T }>;

/** One mail to one or more recipients, who see each other. It has subject and text, or a template. */
export type EmailSend = {
  type: "email-send";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  /**
   * Addresses, each alone (`dana@example.com`) or with a name (`Dana <dana@example.com>`). They are checked when the
   * mail is sent: a bad one doesn't cost the others their mail.
   * @minItems 1
   */
  to: string[];
  /**
   * Beside a template: used instead of the template's own.
   * @default ""
   */
  subject?: string;
  /**
   * The plain text; where it is empty, the sender derives it from `html`.
   * @default ""
   */
  text?: string;
  /** Absent or empty: a mail of plain text alone. */
  html?: string | null;
  /** The name of a template; `text` and `html` come from it. */
  template?: string | null;
  /** What the template's placeholders stand for. */
  data?: { [name: string]: unknown } | null;
} & TaskId & (
  | { subject: string; text: string; template?: null }
  | { template: string; text?: ""; html?: "" | null });

/** One export. */
export type ExportUserData = {
  type: "export-user-data";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  config: ExportObject | ExportUser | ExportTeam;
} & TaskId;

/** One import. */
export type ImportUserData = {
  type: "import-user-data";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  data: ImportData;
  config: ImportConfig;
} & TaskId;

/** One answer. Older producers say nothing of attachments, bounds and options. */
export type LlmCompletion = {
  type: "llm-completion";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  chatId: string;
  /** The message that is answered. */
  messageId: string;
  userData: SessionUser;
  model?: string | null;
  taskContexts?: TaskContext[] | null;
  /** null: whoever of the chat's bots is spoken to. */
  respondingBot?: RespondingBot | null;
  allocation?: Allocation | null;
  options?: ExecutionOptions | null;
} & TaskId;

/**
 * What its producer has decided to tell a user: preferences, daily limits and silence are its matter.
 *
 * Longer texts than the table holds are no invalid data; they are the processor's matter.
 */
export type NotificationCreate = {
  type: "notification-create";
  /**
   * A snowflake in digits, up to 2^63-1. It becomes the primary key, so that a second job with it is known as one.
   * Its pattern is in schema.json.
   */
  id?: string;
  /** @minLength 1 */
  userId: string;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  /** Node's: AccountCreditsOrApi, Award, Message, Run, Schedule, Security, SystemAlert, Transfer and more. */
  category: string;
  /** May be empty. */
  title: string;
  description?: string | null;
  link?: string | null;
  imgLink?: string | null;
  /** false: the user has silenced it; it is stored alone. */
  sendWebSocketEvent?: boolean | null;
} & ({ id: string } | { idempotencyKey: string });

/** One message to one device; a user with three has three of them. */
export type PushNotification = {
  type: "push-notification";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  subscription: PushSubscription;
  payload: PushPayload;
} & TaskId;

/** One call of the function that a code version defines. */
export type SandboxExecution = {
  type: "sandbox-execution";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  codeVersionId: string;
  userData: SessionUser;
  /** Any JSON. */
  input?: unknown;
  /** true: a list is passed as arguments, one each. */
  shouldSpreadInput?: boolean | null;
  /**
   * Said by older producers alone.
   * @example "Sandbox", "Test"
   */
  __process?: string | null;
} & TaskId;

/** One text message; each recipient gets one of their own. */
export type SmsMessage = {
  type: "sms-message";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  /**
   * Phone numbers (E.164: `+15555550123`). They are checked when the message is sent.
   * @minItems 1
   */
  to: string[];
  body: string;
} & TaskId;

/** The data of a job of type `run-start`, in any of its shapes. */
export type AnyRunStart = RunStart | FlatRun;

/** The data of a job of type `swarm-execution`, in any of its shapes. */
export type AnySwarmExecution = SwarmExecution | FlatSwarm;

/**
 * A run's task without `context` and `input`. Its `status` is the task's.
 * @deprecated
 */
export type FlatRun = {
  type: "run-start";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  runId: string;
  resourceVersionId: string;
  isNewRun: boolean;
  userData: SessionUser;
  config?: RunConfig | null;
  formValues?: { [name: string]: unknown } | null;
  runFrom?: string | null;
  startedById?: string | null;
  input?: never;
} & TaskId;

/**
 * A swarm's task without `context` and `input`. Unknown fields of its `config` are the `input`'s in the newest shape,
 * those of `config.resources` the `allocation`'s.
 * @deprecated
 */
export type FlatSwarm = {
  type: "swarm-execution";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  swarmId: string;
  config: FlatSwarmConfig;
  userData: SessionUser;
  organizationId?: string | null;
  input?: never;
} & TaskId;

/** One run, started or gone on with. */
export type RunStart = {
  type: "run-start";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  context: TierContext;
  input: RunInput;
  /** null: its producer set no bounds, as older ones don't. */
  allocation: Allocation | null;
  options?: ExecutionOptions | null;
} & TaskId;

/** One swarm, from its start on. */
export type SwarmExecution = {
  type: "swarm-execution";
  /**
   * The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
   * alone, that is the id.
   */
  id?: string;
  userId?: string | null;
  /** Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state. */
  status?: string | null;
  /** What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`). */
  idempotencyKey?: string | null;
  /** How long this task may take, in milliseconds. null: what its queue says. */
  timeout?: number | null;
  /**
   * The version of the type's shape that its producer writes. null: one of those without numbers, which are 1.
   * @minimum 1
   * @maximum 1
   */
  schemaVersion?: number | null;
  context: SwarmContext;
  input: SwarmInput;
  allocation: Allocation;
  options?: ExecutionOptions | null;
} & TaskId;

/** Bounds of a swarm, a run or a completion. null: its producer set none; the engine's own apply. */
export interface Allocation {
  /** @pattern ^((0|-?[1-9][0-9]{0,99})|unlimited)$ */
  maxCredits: string | null;
  /** @minimum 0 */
  maxDurationMs: number | null;
  /** @minimum 0 */
  maxMemoryMB: number | null;
  /** @minimum 0 */
  maxConcurrentSteps: number | null;
  /**
   * Set by the oldest producers of swarms alone.
   * @minimum 0
   */
  maxTokens?: number | null;
}

/** Which bot answers, and by what model and prompt. */
export interface BotConfig {
  model?: string | null;
  modelHandling?: "OnlyWhenMissing" | "Override" | null;
  prompt?: string | null;
  promptHandling?: "Combine" | "Override" | null;
  /** Any JSON: Node's producers give an id, or an object with one. */
  respondingBot?: unknown;
  respondingBotHandle?: string | null;
}

/** Who decides at each kind of choice. */
export interface DecisionConfig {
  inputGeneration?: "Auto" | "Manual" | null;
  pathSelection?: "AutoPickFirst" | "AutoPickLLM" | "AutoPickRandom" | "ManualPick" | null;
  subroutineExecution?: "Auto" | "Manual" | null;
}

/** By what model, and how. */
export interface ExecutionConfig {
  model?: string | null;
  temperature?: number | null;
  /** @minimum 0 */
  parallelExecutionLimit?: number | null;
  /** Said by older producers alone. */
  autoApproveTools?: boolean | null;
}

/** Node's `options` of a completion, a swarm or a run. */
export interface ExecutionOptions {
  /** Milliseconds. */
  timeout?: number | null;
  /**
   * How urgent it is; see `tasks.priority`. Another word counts as none.
   * @example "low", "medium", "high"
   */
  priority?: string | null;
  retryPolicy?: RetryAdvice | null;
  /** @minimum 0 */
  retryCount?: number | null;
  debugMode?: boolean | null;
}

/** Which kinds of object; `all` stands for each of them. */
export interface ExportFlags {
  all: boolean;
  account?: boolean | null;
  apis?: boolean | null;
  bookmarks?: boolean | null;
  bots?: boolean | null;
  chats?: boolean | null;
  codes?: boolean | null;
  comments?: boolean | null;
  issues?: boolean | null;
  notes?: boolean | null;
  pullRequests?: boolean | null;
  projects?: boolean | null;
  reactions?: boolean | null;
  reminders?: boolean | null;
  reports?: boolean | null;
  routines?: boolean | null;
  runs?: boolean | null;
  schedules?: boolean | null;
  standards?: boolean | null;
  teams?: boolean | null;
  views?: boolean | null;
}

/** One object. */
export interface ExportObject {
  /** What is done to the exported data. An unknown word is refused: a guess might delete. */
  afterExport: "Anonymize" | "Delete" | "NoAction";
  downloadable: boolean;
  __type: "SingleObject";
  objectType: string;
  objectId: string;
}

/** A team's data. */
export interface ExportTeam {
  /** What is done to the exported data. An unknown word is refused: a guess might delete. */
  afterExport: "Anonymize" | "Delete" | "NoAction";
  downloadable: boolean;
  __type: "Team";
  teamId: string;
  flags: ExportFlags;
}

/** A user's data. */
export interface ExportUser {
  /** What is done to the exported data. An unknown word is refused: a guess might delete. */
  afterExport: "Anonymize" | "Delete" | "NoAction";
  downloadable: boolean;
  __type: "User";
  userId: string;
  flags: ExportFlags;
}

/** Bounds, and tools. Credits are a plain number here. */
export interface FlatResources {
  /** @minimum 0 */
  maxCredits?: number | null;
  /** @minimum 0 */
  maxTokens?: number | null;
  /**
   * Milliseconds.
   * @minimum 0
   */
  maxTime?: number | null;
  tools?: Tool[] | null;
}

/** What the swarm is asked to do. */
export interface FlatSwarmConfig {
  name?: string | null;
  description?: string | null;
  goal: string;
  resources?: FlatResources | null;
  config?: ExecutionConfig | null;
}

/** The rules. An unknown way of resolving conflicts is refused: a guess might overwrite. */
export interface ImportConfig {
  /** false: the data must be signed by this installation. */
  allowForeignData: boolean;
  assignObjectsTo: ImportOwner;
  onConflict: "overwrite" | "skip" | "error";
  skipPermissions?: boolean | null;
  userData: ImportUser;
  isSeeding: boolean;
}

/** An export, as it was downloaded. */
export interface ImportData {
  /** ISO 8601. */
  __exportedAt: string;
  /** A JWT over data and owner; may be empty where foreign data are allowed. */
  __signature: string;
  __source: string;
  /** Of the export's format. */
  __version: string;
  data: ImportElement[];
}

/** One object. Which kinds can be imported is the processor's matter. */
export interface ImportElement {
  __version: string;
  __typename: string;
  /** The object, which may hold others in elements like this one. */
  shape: { [name: string]: unknown };
}

/** Whose the imported objects become. */
export interface ImportOwner {
  __typename: "User" | "Team";
  id: string;
}

/** Who imports. */
export interface ImportUser {
  id: string;
  languages?: string[] | null;
}

/** What the message is encrypted for (RFC 8291), in base64url. */
export interface PushKeys {
  p256dh: string;
  auth: string;
}

/** What the device gets, as JSON, with whatever else is in it. */
export interface PushPayload {
  body: string;
  title?: string | null;
  icon?: string | null;
  link?: string | null;
}

/** A device, as its browser has described it. */
export interface PushSubscription {
  endpoint: string;
  keys: PushKeys;
}

/** The bot that is to answer, by one of its names. */
export interface RespondingBot {
  id?: string | null;
  publicId?: string | null;
  handle?: string | null;
}

/** Node's `retryPolicy`. Nobody maps it to the job's options, which decide on retries. */
export interface RetryAdvice {
  /** @minimum 0 */
  maxRetries?: number | null;
  backoffMs?: number | null;
  backoffMultiplier?: number | null;
  maxBackoffMs?: number | null;
}

/** What is absent is the engine's to choose. An unknown choice is refused: a guess would run something else. */
export interface RunConfig {
  botConfig?: BotConfig | null;
  decisionConfig?: DecisionConfig | null;
  isPrivate?: boolean | null;
  /** Such runs come before others; see `tasks.priority`. */
  isTimeSensitive?: boolean | null;
  limits?: RunLimits | null;
  loopConfig?: { [name: string]: unknown } | null;
  onBranchFailure?: "Continue" | "Pause" | "Stop" | null;
  onGatewayForkFailure?: "Continue" | "Wait" | "Fail" | null;
  onNormalNodeFailure?: "Continue" | "Wait" | "Fail" | null;
  onOnlyWaitingBranches?: "Continue" | "Pause" | "Stop" | null;
  testMode?: boolean | null;
}

/** One run of a routine, new or resumed. */
export interface RunInput {
  /** `run-<nanoid>`, or a snowflake. */
  runId: string;
  resourceVersionId: string;
  /** false: the run exists, and goes on where it stopped. */
  isNewRun: boolean;
  config?: RunConfig | null;
  /** The routine's inputs, by their names. */
  formValues?: { [name: string]: unknown } | null;
  /**
   * What has started it; see `tasks.priority`. Another word counts as none.
   * @example "Api", "Bot", "Chat", "RunView", "Schedule", "Test", "Webhook"
   */
  runFrom?: string | null;
  /** The user who has. */
  startedById?: string | null;
  /** The run's own state when the job was added. */
  status?: string | null;
}

/** Bounds that the run's user has set, and what happens at each. null: no bound. */
export interface RunLimits {
  /** @minimum 0 */
  maxContextTokens?: number | null;
  /** @pattern ^((0|-?[1-9][0-9]{0,99})|unlimited)$ */
  maxCredits?: string | null;
  /** @minimum 0 */
  maxSteps?: number | null;
  /**
   * Milliseconds.
   * @minimum 0
   */
  maxTime?: number | null;
  onMaxCredits?: "Pause" | "Stop" | null;
  onMaxSteps?: "Pause" | "Stop" | null;
  onMaxTime?: "Pause" | "Stop" | null;
}

/**
 * Nothing but the id is needed to work for a user; what Node's type says is always there may be absent in older jobs.
 */
export interface SessionUser {
  __typename?: string | null;
  /** A snowflake in digits. */
  id: string;
  publicId?: string | null;
  name?: string | null;
  handle?: string | null;
  /**
   * What the user had when the job was added.
   * @pattern ^((0|-?[1-9][0-9]{0,99})|unlimited)$
   */
  credits?: string | null;
  creditAccountId?: string | null;
  creditSettings?: { [name: string]: unknown } | null;
  hasPremium?: boolean | null;
  isEnterprise?: boolean | null;
  hasReceivedPhoneVerificationReward?: boolean | null;
  phoneNumberVerified?: boolean | null;
  /** ISO 639 codes, the preferred one first. */
  languages?: string[] | null;
  profileImage?: string | null;
  theme?: string | null;
  session?: UserSession | null;
  /** ISO 8601. */
  updatedAt?: string | null;
}

/** Which swarm it is, whose, and the one that has started it. */
export interface SwarmContext {
  swarmId: string;
  userData: SessionUser;
  parentSwarmId?: string | null;
  /** When it was asked for, ISO 8601. */
  timestamp?: string | null;
}

/** The goal, and means to it. `name`, `description` and `organizationId` are said by older producers alone. */
export interface SwarmInput {
  goal: string;
  userData: SessionUser;
  swarmId?: string | null;
  chatId?: string | null;
  teamConfiguration?: TeamConfiguration | null;
  /** null: those that the engine gives every swarm. */
  availableTools?: Tool[] | null;
  executionConfig?: ExecutionConfig | null;
  name?: string | null;
  description?: string | null;
  organizationId?: string | null;
}

/** One attachment: any data, and perhaps how to put it into words. */
export interface TaskContext {
  id: string;
  label: string;
  /** Any JSON. */
  data?: unknown;
  name?: string | null;
  description?: string | null;
  type?: string | null;
  template?: string | null;
  templateVariables?: TemplateVariables | null;
}

/** What a task is known by: its id, or an idempotency key, which then is the id. */
export type TaskId = { id: string } | { idempotencyKey: string };

/** Who works on it. */
export interface TeamConfiguration {
  leaderAgentId?: string | null;
  /** @minimum 0 */
  preferredTeamSize?: number | null;
  requiredSkills?: string[] | null;
}

/** What the placeholders of a template are called. */
export interface TemplateVariables {
  data?: string | null;
  task?: string | null;
}

/** The swarm around the work, and its user. */
export interface TierContext {
  /** null: a run that belongs to no swarm, as older producers wrote it. */
  swarmId: string | null;
  userData: SessionUser;
  parentSwarmId?: string | null;
  /** When it was asked for, ISO 8601. */
  timestamp?: string | null;
}

/** A tool that the swarm may call. */
export interface Tool {
  name: string;
  description?: string | null;
}

/** Where the user is logged in. */
export interface UserSession {
  __typename?: string | null;
  id?: string | null;
  /** ISO 8601. */
  lastRefreshAt?: string | null;
}
