// Every decision in plain English, with its numbers. The only place where views take such sentences from.

import { type Action, type Decision, type Reason, REASON_TEXTS } from "./generated.ts";
import { count, int } from "./format.ts";

const LABELS: Record<Reason, string> = {
  admitted: "admitted",
  resumed: "resumed",
  chunk: "next chunk",
  decode: "decode",
  token_budget: "budget",
  no_chunking: "whole prompt",
  max_num_seqs: "batch place",
  no_blocks: "KV blocks",
  behind: "its turn",
  sibling: "shared prefill",
  after_preemption: "preemption",
  policy: "policy",
  paused: "resume",
  reconfigured: "KV pool change",
};

const ACTIONS: Record<Action, string> = {
  prefill: "prefill",
  decode: "decode",
  wait: "waiting",
  preempt: "preempted",
};

/** One or two words for what is waited for, in legends and sums. */
export function reasonLabel(reason: Reason): string {
  return LABELS[reason];
}

export function actionLabel(action: Action): string {
  return ACTIONS[action];
}

/** What happened to a request in a step, and why: the texts of workbench/core/reasons.py, filled in by its rule. */
export function explain(d: Decision): string {
  const values: Record<string, string | number> = { ...d, left: Math.max(0, d.need - d.num_tokens) };
  const fill = (_: string, name: string, word?: string): string => {
    if (name === "part") {
      return d.need > d.num_tokens ? `${int(d.num_tokens)} of ${count(d.need, word!)}` : count(d.num_tokens, word!);
    }
    const value = values[name]!;
    if (typeof value === "string") return value;
    return word === undefined ? int(value) : count(value, word);
  };
  const clause = (_: string, text: string): string =>
    [...text.matchAll(FIELD)].every(([, name]) => Boolean(values[name!])) ? text : "";
  return REASON_TEXTS[textName(d)]!.replace(CLAUSE, clause).replace(FIELD, fill);
}

const CLAUSE = /\[([^\]]*)\]/g;
const FIELD = /\{(\w+)(?::([^}]*))?\}/g;

function textName(d: Decision): string {
  if (d.action === "preempt" && d.reason === "reconfigured") {
    return d.need > 0 ? "reconfigured_blocks" : "reconfigured_pool";
  }
  if (d.action === "preempt") return d.other === d.request_id || d.other === "" ? "preempt_self" : "preempt";
  if (d.action === "decode") return d.num_tokens === 1 ? "decode" : "decode_many";
  if (d.action === "prefill" && d.reason !== "admitted" && d.reason !== "resumed") {
    return d.need > d.num_tokens ? "chunk" : "chunk_last";
  }
  return d.reason;
}

/** How a request ended. */
export function explainEnding(reason: string, detail: string): string {
  switch (reason) {
    case "stop":
      return detail === "" ? "ended by itself" : `stopped at ${JSON.stringify(detail)}`;
    case "length":
      return "reached max_tokens";
    case "abort":
      return detail === "" ? "cancelled" : `cancelled: ${detail}`;
    case "error":
      return detail === "" ? "failed" : `failed: ${detail}`;
    default:
      return detail === "" ? reason : `${reason} ${detail}`;
  }
}

/** Why a decision preempted its request, to follow "preempted", and the request to look at; "" if there is none. */
export function preemptedFor(d: Decision): { why: string; other: string } {
  if (d.reason === "reconfigured") return { why: `as the KV pool changed: ${d.other}`, other: "" };
  if (d.other === "" || d.other === d.request_id) return { why: "for want of KV blocks", other: "" };
  return { why: `for ${d.other}`, other: d.other };
}
