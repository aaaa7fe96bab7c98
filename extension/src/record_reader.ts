// Reads the records of one frame: columns back to rows. workbench/trace/wire.py writes them.

import {
  type Decision,
  type DecisionColumns,
  decodeDecision,
  decodeStepRecord,
  type Sampled,
  type SampledColumns,
  type StepRecord,
  type StepRecordWire,
} from "./generated.ts";

const NO_ALTERNATIVES: [number, number][] = [];

/** Records must be read in order from the frame's first one on: what stays as it was is not told again. */
export class RecordReader {
  private deciding: string[] = [];
  private noted = new Map<number, Decision>();
  private sampling: string[] = [];

  read(wire: StepRecordWire): StepRecord {
    return decodeStepRecord(wire, this.decisions(wire.decisions), this.sampled(wire.sampled));
  }

  private decisions([ids, numComputed, noted]: DecisionColumns): Decision[] {
    if (ids !== null) this.deciding = ids;
    if (noted !== null) this.noted = new Map(noted.map(([place, row]) => [place, decodeDecision(row)]));
    return this.deciding.map((id, place) => this.noted.get(place) ?? decodes(id, numComputed[place]!));
  }

  private sampled([ids, tokenIds, positions, logprobs]: SampledColumns): Sampled[] {
    if (ids !== null) this.sampling = ids;
    const rows = this.sampling.map((id, place) => ({
      request_id: id,
      token_id: tokenIds[place]!,
      logprob: null as number | null,
      alternatives: NO_ALTERNATIVES,
      position: positions[place]!,
    }));
    for (const [place, logprob, alternatives] of logprobs) Object.assign(rows[place]!, { logprob, alternatives });
    return rows;
  }
}

function decodes(id: string, numComputed: number): Decision {
  return {
    request_id: id,
    action: "decode",
    reason: "decode",
    num_tokens: 1,
    num_computed: numComputed,
    num_cached: 0,
    need: 0,
    have: 0,
    other: "",
  };
}
