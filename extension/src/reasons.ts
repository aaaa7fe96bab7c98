// Every decision in plain English, with its numbers. The only place where views take such sentences from.

import type { Action, Decision, Reason } from "./generated.ts";
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

/** What happened to a request in a step, and why. */
export function explain(d: Decision): string {
  switch (d.action) {
    case "prefill":
      return explainPrefill(d);
    case "decode":
      return d.num_tokens === 1 ? "decodes its next token" : `decodes ${count(d.num_tokens, "token")}`;
    case "preempt":
      return explainPreemption(d);
    case "wait":
      return explainWait(d);
  }
}

function explainPrefill(d: Decision): string {
  const size = count(d.num_tokens, "prompt token");
  const computes =
    d.need > d.num_tokens ? `computes ${int(d.num_tokens)} of ${count(d.need, "prompt token")}` : `computes ${size}`;
  const cached = d.num_cached > 0 ? `; ${int(d.num_cached)} came from the prefix cache` : "";
  switch (d.reason) {
    case "admitted":
      return `admitted: ${computes}${cached}`;
    case "resumed":
      return `resumed after preemption: recomputes ${count(d.num_tokens, "token")}${cached}`;
    default: {
      const after = d.need - d.num_tokens;
      return after > 0
        ? `next chunk: computes ${size}, ${int(after)} to go`
        : `last chunk: computes ${size} and samples the first token`;
    }
  }
}

function explainPreemption(d: Decision): string {
  const need = count(d.need, "KV block");
  if (d.reason === "reconfigured") {
    return d.need > 0
      ? `preempted: ${d.other} took ${need} out of the pool, ${int(d.have)} free`
      : `preempted: ${d.other} made the KV pool anew, so its KV is computed again`;
  }
  if (d.other === d.request_id || d.other === "") return `preempted: it needed ${need}, ${int(d.have)} free`;
  return `preempted: ${d.other} needed ${need}, ${int(d.have)} free`;
}

function explainWait(d: Decision): string {
  switch (d.reason) {
    case "token_budget":
      return (
        `token budget used up: wants ${count(d.need, "token")}, ${int(d.have)} left` +
        (d.other === "" ? "" : `; most went to ${d.other}`)
      );
    case "no_chunking":
      return `its whole prompt of ${count(d.need, "token")} must fit; ${int(d.have)} left in the budget (chunking is off)`;
    case "max_num_seqs":
      return `the batch is full: it would be sequence ${int(d.need)}, max_num_seqs is ${int(d.have)}`;
    case "no_blocks":
      return (
        `waits for ${count(d.need, "KV block")}, ${int(d.have)} free` +
        (d.other === "" ? "" : `; ${d.other} holds most`)
      );
    case "behind":
      return `behind ${d.other} in the queue`;
    case "sibling":
      return `waits for ${d.other} to compute the prompt that they share`;
    case "after_preemption":
      return `nobody is admitted in a step that preempted ${d.other}`;
    case "policy":
      return `the policy gave it none of the ${count(d.have, "token")} left in the budget`;
    case "paused":
      return "the engine is paused";
    case "reconfigured":
      return `waits while the KV pool changes: ${d.other}`;
    default:
      return "waits";
  }
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
