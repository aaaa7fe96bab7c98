// Breakpoints of the scheduler: what can be broken on, what is set, and why the engine stopped.

import { int } from "../format.ts";
import type { BreakCondition, CommandArgs, CommandName, Status } from "../protocol.ts";
import type { Session } from "../session.ts";
import { h, setText } from "../ui/dom.ts";

interface Choice {
  /** The engine's name for it, in `status.breakpoints` and in front of the reason of a stop. */
  readonly name: string;
  readonly label: string;
  readonly condition: BreakCondition;
}

export const CHOICES: readonly Choice[] = [
  { name: "preemption", label: "a preemption", condition: { event: "preemption" } },
  { name: "allocation_failure", label: "too few KV blocks", condition: { event: "allocation_failure" } },
  { name: "eviction", label: "an eviction from the cache", condition: { event: "eviction" } },
  { name: "admission", label: "an admission", condition: { event: "admission" } },
  { name: "first_token", label: "a first token", condition: { event: "first_token" } },
  { name: "finish", label: "the end of a request", condition: { event: "finish" } },
  { name: "fewer than 4 free blocks", label: "fewer than 4 free blocks", condition: { free_blocks_under: 4 } },
  { name: "a step over 50 ms", label: "a step over 50 ms", condition: { step_longer_than: 0.05 } },
];

/** A breakpoint in plain words; those set from Python with other names keep them. */
export function breakpointLabel(name: string): string {
  const known = (event: string): string => CHOICES.find((c) => c.name === event)?.label ?? event;
  const [, event, request] = /^(\w+) of (.+)$/.exec(name) ?? [];
  return event !== undefined && request !== undefined ? `${known(event)}, ${request}` : known(name);
}

/** The sentence shown while the engine is paused with a message. */
export function stopReason(status: Status): string {
  const message = status.message ?? "";
  const set = (status.breakpoints ?? []).find((name) => message.startsWith(`${name}: `));
  const reason = set === undefined ? message : `${breakpointLabel(set)}: ${message.slice(set.length + 2)}`;
  return `Stopped after step ${int(status.step)} on ${reason}`;
}

interface BreakpointPicker {
  readonly select: HTMLSelectElement;
  readonly list: HTMLElement;
  draw(): void;
}

export function breakpointPicker(
  session: Session,
  run: <N extends CommandName>(name: N, args: CommandArgs[N]) => void,
): BreakpointPicker {
  const options = CHOICES.map((choice) => h("option", { value: choice.name }, choice.label));
  const select = h(
    "select",
    {
      class: "iw-select iw-break-on",
      title: "Pause after the first step in which this happens",
      "aria-label": "Break on",
      "data-testid": "break-on",
      onchange: () => {
        const choice = CHOICES.find((c) => c.name === select.value);
        select.value = "";
        if (choice !== undefined) run("break_on", choice.condition);
      },
    },
    h("option", { value: "" }, "Break on …"),
    ...options,
  );
  const chips = h("span", { class: "iw-breakpoints", "data-testid": "breakpoints" });
  const clear = h(
    "button",
    {
      type: "button",
      class: "iw-button",
      title: "Remove all breakpoints",
      "data-testid": "clear-breakpoints",
      onclick: () => run("clear_breakpoints", {}),
    },
    "Clear",
  );
  const list = h("div", { class: "iw-row iw-break-row" }, h("span", { class: "iw-dim" }, "Breaks on"), chips, clear);
  return {
    select,
    list,
    draw() {
      const names = session.store.status?.breakpoints ?? [];
      select.hidden = session.connection === "live" && !session.interactive;
      select.disabled = clear.disabled = !session.commandable;
      options.forEach((option, i) => (option.disabled = names.includes(CHOICES[i]!.name)));
      list.hidden = names.length === 0;
      while (chips.children.length > names.length) chips.lastElementChild!.remove();
      while (chips.children.length < names.length) chips.append(h("span", { class: "iw-break" }));
      names.forEach((name, i) => setText(chips.children[i]!, breakpointLabel(name)));
    },
  };
}
