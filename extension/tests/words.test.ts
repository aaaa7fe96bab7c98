import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { compact, count, int, byteSize, millis, percent, rate, seconds, visible } from "../src/format.ts";
import { type Action, decodeDecision, type DecisionRow, type Reason } from "../src/generated.ts";
import { explain, explainEnding, reasonLabel } from "../src/reasons.ts";
import { breakpointLabel, CHOICES, stopReason } from "../src/views/breakpoints.ts";
import { recordedTrace, status } from "./support.ts";

const plain = (text: string): string => text.replace(/\u00a0/g, " ");

const table = (name: string): [number, string][] =>
  JSON.parse(readFileSync(new URL(`../../tests/support/${name}.json`, import.meta.url), "utf8")) as [number, string][];

test("times and sizes read as Python writes them", () => {
  assert.ok(table("times").length > 10 && table("sizes").length > 10);
  for (const [value, text] of table("times")) assert.equal(plain(seconds(value)), text);
  for (const [bytes, text] of table("sizes")) assert.equal(plain(byteSize(bytes)), text);
});

test("times in columns", () => {
  assert.equal(seconds(Number.NaN), "–");
  assert.equal(plain(millis(0.0024)), "2.40 ms");
});

test("other numbers", () => {
  assert.equal(int(4212), "4,212");
  assert.equal(plain(percent(0.714)), "71 %");
  assert.equal(plain(percent(0.0042)), "0.4 %");
  assert.equal(plain(compact(4_600_000)), "4.6 M");
  assert.equal(count(1, "block"), "1 block");
  assert.equal(count(2, "block"), "2 blocks");
  assert.equal(rate(null), "full speed");
  assert.equal(plain(rate(12)), "12 steps/s");
  assert.equal(visible("a\nb", 10), "a⏎b");
});

function sentence(
  action: Action,
  reason: Reason,
  numbers: Partial<Record<"n" | "computed" | "cached" | "need" | "have", number>>,
  other = "",
): string {
  const { n = 0, computed = 0, cached = 0, need = 0, have = 0 } = numbers;
  const row: DecisionRow = ["r1", action, reason, n, computed, cached, need, have, other];
  return explain(decodeDecision(row));
}

test("every decision is a sentence with its numbers", () => {
  assert.equal(
    sentence("wait", "no_blocks", { need: 3, have: 1 }, "r7"),
    "waits for 3 KV blocks, 1 free; r7 holds most",
  );
  assert.equal(
    sentence("wait", "token_budget", { need: 40, have: 0 }, "r3"),
    "token budget used up: wants 40 tokens, 0 left; most went to r3",
  );
  assert.equal(sentence("wait", "behind", {}, "r4"), "behind r4 in the queue");
  assert.equal(
    sentence("wait", "max_num_seqs", { need: 5, have: 4 }),
    "the batch is full: it would be sequence 5, max_num_seqs is 4",
  );
  assert.equal(
    sentence("prefill", "admitted", { n: 16, cached: 32 }),
    "admitted: computes 16 prompt tokens; 32 came from the prefix cache",
  );
  assert.equal(
    sentence("prefill", "chunk", { n: 16, need: 40, have: 16 }),
    "next chunk: computes 16 prompt tokens, 24 to go",
  );
  assert.equal(
    sentence("prefill", "chunk", { n: 8, need: 8, have: 8 }),
    "last chunk: computes 8 prompt tokens and samples the first token",
  );
  assert.equal(sentence("preempt", "no_blocks", { need: 1 }, "r2"), "preempted: r2 needed 1 KV block, 0 free");
  assert.equal(sentence("preempt", "no_blocks", { need: 1 }, "r1"), "preempted: it needed 1 KV block, 0 free");
  assert.equal(sentence("decode", "decode", { n: 1 }), "decodes its next token");
  assert.match(sentence("wait", "sibling", {}, "r1.0"), /r1\.0 to compute the prompt/);
  assert.match(sentence("wait", "after_preemption", {}, "r9"), /preempted r9/);
  assert.match(sentence("wait", "no_chunking", { need: 90, have: 12 }), /90 tokens must fit; 12 left/);
  assert.match(sentence("wait", "policy", { need: 9, have: 4 }), /none of the 4 tokens left/);
  assert.match(sentence("prefill", "admitted", { n: 96, need: 185 }), /computes 96 of 185 prompt tokens/);
  assert.match(sentence("wait", "paused", {}), /paused/);
  assert.equal(reasonLabel("no_blocks"), "KV blocks");
});

test("the page's sentences are Python's", () => {
  const { explained } = recordedTrace();
  assert.ok(explained.length > 100);
  for (const [row, text] of explained) assert.equal(explain(decodeDecision(row)), text);
});

test("endings", () => {
  assert.equal(explainEnding("length", ""), "reached max_tokens");
  assert.equal(explainEnding("stop", "\n"), 'stopped at "\\n"');
  assert.equal(explainEnding("error", "NaN logits"), "failed: NaN logits");
});

test("breakpoints are named in plain words, and those with names of their own keep them", () => {
  assert.equal(breakpointLabel("allocation_failure"), "too few KV blocks");
  assert.equal(breakpointLabel("first_token of r12"), "a first token, r12");
  assert.equal(breakpointLabel("fewer than 9 free blocks"), "fewer than 9 free blocks");
  assert.equal(breakpointLabel("my_condition"), "my_condition");
  assert.equal(new Set(CHOICES.map((c) => c.label)).size, CHOICES.length);
});

test("the reason of a stop names the step and the breakpoint; a status without breakpoints will do", () => {
  const message = "preemption: r7 was preempted: r4 needed 1 blocks, 0 were free";
  assert.equal(
    stopReason(status({ state: "paused", step: 12, message, breakpoints: ["finish", "preemption"] })),
    "Stopped after step 12 on a preemption: r7 was preempted: r4 needed 1 blocks, 0 were free",
  );
  assert.equal(stopReason(status({ state: "paused", step: 12, message })), `Stopped after step 12 on ${message}`);
});
