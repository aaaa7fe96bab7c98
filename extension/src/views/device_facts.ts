// What a device says of itself, as one line.

import { int, byteSize, percent } from "../format.ts";
import type { DeviceReading } from "../protocol.ts";

/** Processes that are named; more would be a list nobody reads. */
const MOST_PROCESSES = 4;

export function deviceFacts(reading: DeviceReading | null): string {
  if (reading === null) return "";
  if (reading.problem !== null) return `${reading.name}: no figures, as ${reading.problem}`;
  const said = [reading.name];
  const { used_bytes: used, total_bytes: total } = reading;
  if (used !== null && total !== null) said.push(`${byteSize(used)} of ${byteSize(total)} in use by all processes`);
  said.push(...pace(reading));
  const processes = reading.processes.slice(0, MOST_PROCESSES).map(([pid, bytes]) => {
    return `process ${pid}${bytes === null ? "" : ` ${byteSize(bytes)}`}`;
  });
  const more = reading.processes.length - processes.length;
  if (more > 0) processes.push(`${int(more)} more processes`);
  return [...said, ...processes].join(" · ");
}

/** What of a GPU decides how quick it is, beside latencies; "" for a CPU, which says nothing of the kind. */
export function paceFacts(reading: DeviceReading | null): string {
  if (reading === null || reading.source !== "NVML") return "";
  return reading.problem === null ? [reading.name, ...pace(reading)].join(" · ") : deviceFacts(reading);
}

function pace(reading: DeviceReading): string[] {
  const said: string[] = [];
  if (reading.utilization !== null) said.push(`${percent(reading.utilization)} busy`);
  if (reading.power_watts !== null) {
    const limit = reading.power_limit_watts === null ? "" : ` of ${int(Math.round(reading.power_limit_watts))}`;
    said.push(`${int(Math.round(reading.power_watts))}${limit} W`);
  }
  if (reading.clock_mhz !== null) said.push(`${int(reading.clock_mhz)} MHz`);
  if (reading.memory_clock_mhz !== null) said.push(`memory ${int(reading.memory_clock_mhz)} MHz`);
  if (reading.temperature_celsius !== null) said.push(`${int(reading.temperature_celsius)} °C`);
  return said;
}
