import type { Reason, StepRecord, StepTimes } from "./generated.ts";
import type { EngineState } from "./replay.ts";
import type { Step } from "./trace_types.ts";

/** Seconds from the start of a step to its end. */
export function duration(times: StepTimes): number {
  return times.schedule + times.prepare + times.forward + times.sample + times.update;
}

/** The sums of a record that views draw; `after` is the state after it. */
export function summarise(record: StepRecord, after: EngineState): Step {
  let prefillTokens = 0;
  let decodeTokens = 0;
  const waits = new Map<Reason, number>();
  const queued = new Set(after.waiting);
  for (const d of record.decisions) {
    if (d.action === "prefill") prefillTokens += d.num_tokens;
    else if (d.action === "decode") decodeTokens += d.num_tokens;
    else if (d.action === "wait" && queued.has(d.request_id)) waits.set(d.reason, (waits.get(d.reason) ?? 0) + 1);
  }
  return {
    record,
    end: record.time + duration(record.times),
    prefillTokens,
    decodeTokens,
    numRunning: after.running.length,
    numWaiting: after.waiting.length,
    waits,
    numUsed: after.numUsed,
    numCachedFree: after.numCachedFree,
    numSampled: record.sampled.length,
  };
}
