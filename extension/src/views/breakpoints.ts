// Breakpoints of the scheduler: what can be broken on, what is set, and why the engine stopped.

import { int } from "../format.ts";
import type { BreakCondition, BreakEvent, CommandArgs, CommandName, Status } from "../protocol.ts";
import type { Session } from "../session.ts";
import { h, setAttribute, setText } from "../ui/dom.ts";

interface Choice {
  /** The engine's name for it, in `status.breakpoints` and in front of the reason of a stop. */
  readonly name: BreakEvent;
  readonly label: string;
  /** Whether one request can be meant by it. */
  readonly ofRequest: boolean;
}

export const CHOICES: readonly Choice[] = [
  { name: "preemption", label: "a preemption", ofRequest: true },
  { name: "allocation_failure", label: "too few KV blocks", ofRequest: true },
  { name: "eviction", label: "an eviction from the cache", ofRequest: false },
  { name: "admission", label: "an admission", ofRequest: true },
  { name: "first_token", label: "a first token", ofRequest: true },
  { name: "finish", label: "the end of a request", ofRequest: true },
];

/** Conditions with a number, which is asked for when one is chosen. */
interface Limit {
  readonly name: string;
  readonly before: string;
  readonly after: string;
  readonly least: number;
  readonly usual: number;
  condition(value: number): BreakCondition;
}

const LIMITS: readonly Limit[] = [
  {
    name: "free_blocks_under",
    before: "fewer than",
    after: "free blocks",
    least: 1,
    usual: 4,
    condition: (value) => ({ free_blocks_under: value }),
  },
  {
    name: "step_longer_than",
    before: "a step over",
    after: "ms",
    least: 1,
    usual: 50,
    condition: (value) => ({ step_longer_than: value / 1000 }),
  },
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
  readonly select: HTMLElement;
  readonly list: HTMLElement;
  draw(): void;
}

type Run = <N extends CommandName>(name: N, args: CommandArgs[N]) => void;

export function breakpointPicker(session: Session, run: Run): BreakpointPicker {
  const options = CHOICES.map((choice) => h("option", { value: choice.name }, choice.label));
  const limits = LIMITS.map(({ name, before, after }) => h("option", { value: name }, `${before} … ${after}`));
  const ofRequest = h("optgroup");
  const ask = limitField((condition) => run("break_on", condition));
  const select = h(
    "select",
    {
      class: "iw-select iw-break-on",
      title: "Pause after the first step in which this happens",
      "aria-label": "Break on",
      "data-testid": "break-on",
      onchange: () => {
        const [name, request] = select.value.split(" of ");
        select.value = "";
        const limit = LIMITS.find((l) => l.name === name);
        ask.show(limit ?? null);
        if (limit === undefined)
          run("break_on", { event: name as BreakEvent, ...(request === undefined ? {} : { request }) });
      },
    },
    h("option", { value: "" }, "Break on …"),
    ...options,
    ...limits,
    ofRequest,
  );
  let named: string | null = null;
  const nameRequest = (id: string | null): void => {
    if (id === named) return;
    named = id;
    ofRequest.label = id === null ? "" : `only of ${id}`;
    const choices = id === null ? [] : CHOICES.filter((choice) => choice.ofRequest);
    ofRequest.replaceChildren(
      ...choices.map(({ name, label }) => h("option", { value: `${name} of ${id}` }, `${label}, ${id}`)),
    );
    ofRequest.hidden = id === null;
  };
  ofRequest.hidden = true;
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
  const whole = h("span", { class: "iw-group" }, select, ask.element);
  return {
    select: whole,
    list,
    draw() {
      const names = session.store.status?.breakpoints ?? [];
      whole.hidden = session.connection === "live" && !session.interactive;
      select.disabled = clear.disabled = !session.commandable;
      if (!session.commandable) ask.show(null);
      options.forEach((option, i) => (option.disabled = names.includes(CHOICES[i]!.name)));
      const { request } = session.selection;
      const info = request === null ? undefined : session.store.requests.get(request);
      nameRequest(info === undefined || info.ending !== null ? null : info.id);
      for (const option of ofRequest.querySelectorAll("option")) option.disabled = names.includes(option.value);
      list.hidden = names.length === 0;
      while (chips.children.length > names.length) chips.lastElementChild!.remove();
      while (chips.children.length < names.length) chips.append(h("span", { class: "iw-break" }));
      names.forEach((name, i) => setText(chips.children[i]!, breakpointLabel(name)));
    },
  };
}

/** Asks for a condition's number; Enter sets the breakpoint, Escape goes without. */
function limitField(set: (condition: BreakCondition) => void): {
  readonly element: HTMLElement;
  show(limit: Limit | null): void;
} {
  let asked: Limit | null = null;
  const [before, after] = [h("span", { class: "iw-dim" }), h("span", { class: "iw-dim" })];
  const field = h("input", { type: "number", class: "iw-field", step: 1, "data-testid": "break-limit" });
  const element = h("span", { class: "iw-group iw-break-limit" }, before, field, after);
  const show = (limit: Limit | null): void => {
    element.hidden = limit === null;
    if (limit === asked) return;
    asked = limit;
    if (limit === null) return;
    setText(before, limit.before);
    setText(after, limit.after);
    field.min = String(limit.least);
    field.value = String(limit.usual);
    setAttribute(field, "aria-label", `${limit.before} how many ${limit.after}`);
    field.title = "Enter sets the breakpoint, Escape leaves it";
    field.focus();
    field.select();
  };
  const done = (): void => {
    if (asked === null || !field.reportValidity() || Number.isNaN(field.valueAsNumber)) return;
    set(asked.condition(field.valueAsNumber));
    show(null);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") done();
    if (event.key === "Escape") show(null);
  });
  const button = h("button", { type: "button", class: "iw-button", "data-testid": "break-set", onclick: done }, "Set");
  element.append(button);
  element.hidden = true;
  return { element, show };
}
