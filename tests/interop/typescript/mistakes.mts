// Mistakes of producers: each must be one to the compiler, which says where it finds none (`@ts-expect-error`).

import type {
  AnyTask,
  EmailSend,
  FlatSwarm,
  RunConfig,
  RunInput,
  RunStart,
  SessionUser,
  SmsMessage,
  TaskOf,
} from "./fleet-tasks.js";

const sms = { type: "sms-message", id: "1", to: ["+15555550123"], body: "b" } as const;
const userData: SessionUser = { id: "1" };
const config = { goal: "g" };
const input: RunInput = { runId: "1", resourceVersionId: "1", isNewRun: true };

export const good: SmsMessage = { ...sms, to: [...sms.to] };

// @ts-expect-error an unknown type
export const unknownType: AnyTask = { type: "sms-massage", id: "1", to: ["+15555550123"], body: "b" };

// @ts-expect-error neither an id nor an idempotency key
export const nameless: SmsMessage = { type: "sms-message", to: ["+15555550123"], body: "b" };

// @ts-expect-error a required field is missing
export const bodiless: SmsMessage = { type: "sms-message", id: "1", to: ["+15555550123"] };

// @ts-expect-error a misspelt optional field
export const misspelt: SmsMessage = { type: "sms-message", id: "1", to: ["+15555550123"], body: "b", userID: "1" };

// @ts-expect-error a string for a list
export const single: SmsMessage = { type: "sms-message", id: "1", to: "+15555550123", body: "b" };

// @ts-expect-error a number for an id
export const numeric: SmsMessage = { type: "sms-message", id: 1, to: ["+15555550123"], body: "b" };

// @ts-expect-error neither a text nor a template
export const empty: EmailSend = { type: "email-send", id: "1", to: ["a@example.com"], subject: "s" };

const toDana = { type: "email-send", id: "1", to: ["a@example.com"] as string[] } as const;

export const templated: EmailSend = { ...toDana, subject: "s", text: "", html: null, template: "welcome" };

// @ts-expect-error a text beside a template
export const textBeside: EmailSend = { ...toDana, subject: "s", text: "t", template: "welcome" };

// @ts-expect-error HTML beside a template
export const htmlBeside: EmailSend = { ...toDana, html: "<p>t</p>", template: "welcome" };

// @ts-expect-error null for a template, and no subject
export const untitled: EmailSend = { ...toDana, text: "t", template: null };

/** Which of the two it is, is told by the template. */
export function contentOf(mail: EmailSend): string {
  return mail.template == null ? mail.subject + mail.text : mail.template.toUpperCase();
}

// @ts-expect-error which of the two it is, isn't known yet
export const subjectOf = (mail: EmailSend): string => mail.subject;

// @ts-expect-error credits are a string
export const rich: SessionUser = { id: "1", credits: 100n };

// @ts-expect-error an unknown word
export const wordy: RunConfig = { onBranchFailure: "Explode" };

// @ts-expect-error two shapes in one
export const both: FlatSwarm = { type: "swarm-execution", id: "1", swarmId: "1", userData, config, input };

// @ts-expect-error bounds are there, or null, but not absent
export const unbound: RunStart = { type: "run-start", id: "1", context: { swarmId: null, userData }, input };

// @ts-expect-error the data of another type
export const other: TaskOf<"email-send"> = good;
