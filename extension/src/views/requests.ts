// Requests: why is this one waiting, preempted or slow?

import { count, int, millis, seconds } from "../format.ts";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { tooQuick } from "../ui/pace.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { blockWhy } from "./block_why.ts";
import { RequestDetail } from "./request_detail.ts";
import { type Group, groupOf, MOTION_MS, RequestMotion } from "./request_motion.ts";
import { type RequestRow, requestRows, type SortKey, sortRows } from "./request_rows.ts";

/** Rows at first, and how many more come when the reader scrolls to their end; the others are counted below the table. */
const ROWS = 40;
/** Shortest time between two draws while live, in ms: text that changes faster cannot be read. */
const DRAW_EVERY = 120;

/** The groups in the usual order, and what is said of each beside how many it has. */
const GROUPS: readonly (readonly [Group, string, string])[] = [
  ["batch", "Batch", ""],
  ["queue", "Queue", ", the first is next"],
  ["ended", "Ended", ", newest first"],
];

/** The colour that a row slides in: it got into the batch, or lost its place there. */
const TINTS = { batch: "good", queue: "danger" } as const;

interface Column {
  readonly key: SortKey | null;
  readonly title: string;
  readonly hint: string;
  readonly numeric: boolean;
  text(row: RequestRow): string;
}

const COLUMNS: readonly Column[] = [
  { key: "id", title: "Request", hint: "Sort by arrival", numeric: false, text: (r) => r.info.id },
  {
    key: "state",
    title: "State",
    hint: "Sort by state: the batch, then the queue in its order",
    numeric: false,
    text: (r) => r.state,
  },
  { key: null, title: "Why", hint: "The reason of the last decision", numeric: false, text: (r) => r.reason },
  { key: "prompt", title: "In", hint: "Prompt tokens", numeric: true, text: (r) => int(r.promptTokens) },
  { key: "output", title: "Out", hint: "Output tokens", numeric: true, text: (r) => int(r.outputTokens) },
  { key: "waited", title: "Waited", hint: "Time in the queue", numeric: true, text: (r) => seconds(r.waited) },
  {
    key: "ttft",
    title: "TTFT",
    hint: "Time to first token, from arrival",
    numeric: true,
    text: (r) => seconds(r.ttft),
  },
  { key: "itl", title: "ITL", hint: "Mean time between tokens", numeric: true, text: (r) => millis(r.itl) },
  {
    key: "preemptions",
    title: "Pre.",
    hint: "Times preempted",
    numeric: true,
    text: (r) => (r.preemptions === 0 ? "–" : `${int(r.preemptions)}×`),
  },
  {
    key: "blocks",
    title: "Blocks",
    hint: "KV blocks held",
    numeric: true,
    text: (r) => (r.blocks === 0 ? "–" : int(r.blocks)),
  },
];

export function requestsView(element: HTMLElement, context: ViewContext): View {
  return new RequestsView(element, context);
}

class RequestsView implements View {
  readonly rest = 1000;
  private readonly context: ViewContext;
  private readonly body = h("tbody");
  private readonly heads: HTMLTableCellElement[];
  private readonly empty = emptyState("No requests yet", "Type a prompt in the playground, or run", "llm.generate(…)");
  private readonly more = h("div", { class: "iw-more" });
  private readonly table: HTMLTableElement;
  private readonly scroller: HTMLElement;
  private readonly rows = new Map<string, HTMLTableRowElement>();
  private readonly detail: RequestDetail;
  private readonly groups: ReadonlyMap<Group, HTMLTableRowElement>;
  private readonly motion = new RequestMotion();
  private readonly calm = matchMedia("(prefers-reduced-motion: reduce)");
  private readonly block = h("div", { class: "iw-block-why", role: "status", "data-testid": "block-why" });
  /** The group that each request was shown in. */
  private places: ReadonlyMap<string, Group> = new Map();
  private most = ROWS;
  private readonly onMore: IntersectionObserver;
  private blockShown = "";
  private sort: SortKey = "state";
  private descending = false;
  private revealed = "";
  private drawn = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const card = new HoverCard(element);
    this.detail = new RequestDetail(context, COLUMNS.length, card);
    const cell = (): HTMLElement => h("td", { colspan: COLUMNS.length }, h("span"));
    this.groups = new Map(
      GROUPS.map(([group]) => [group, h("tr", { class: "iw-row-group", "data-group": group }, cell())]),
    );
    this.heads = COLUMNS.map((column) => {
      const head = h("th", { class: column.numeric ? "iw-num" : "", scope: "col", title: column.hint });
      const { key } = column;
      if (key === null) head.append(column.title);
      else head.append(h("button", { type: "button", onclick: () => this.sortBy(key) }, column.title));
      return head;
    });
    this.table = h("table", { class: "iw-table" }, h("thead", {}, h("tr", {}, ...this.heads)), this.body);
    this.scroller = h("div", { class: "iw-scroll", "data-testid": "requests" }, this.table, this.more);
    element.append(this.block, this.scroller, this.empty);
    this.onMore = new IntersectionObserver(
      ([last]) => {
        if (last!.isIntersecting) this.showMore();
      },
      { root: this.scroller, rootMargin: "0px 0px 300px 0px" },
    );
    this.scroller.addEventListener("scroll", () => {
      if (this.scroller.scrollTop === 0) this.most = ROWS;
    });
    element.addEventListener("pointerleave", () => context.session.hover(null));
  }

  draw(): void {
    const { session } = this.context;
    const wait = DRAW_EVERY - (performance.now() - this.drawn);
    if (session.cursor === "live" && wait > 0 && session.store.status?.state === "running") {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        this.context.invalidate();
      }, wait);
      return;
    }
    this.drawn = performance.now();
    const all = requestRows(session.store, session.cursor);
    const sorted = sortRows(all, this.sort, this.descending);
    const shown = sorted.slice(0, this.most);
    // What is picked anywhere is told here, however far down its row would be.
    const picked = sorted.slice(this.most).find((row) => row.info.id === session.selection.request);
    if (picked !== undefined) shown.push(picked);
    this.drawBlock();
    this.empty.hidden = all.length > 0;
    this.table.hidden = all.length === 0;
    const older = all.length - shown.length;
    setText(this.more, older > 0 ? `and ${count(older, "older request")}` : "");
    // Observed anew, it tells again where it stands: still in sight, it asks for more rows once more.
    this.onMore.disconnect();
    if (older > 0) this.onMore.observe(this.more);
    this.update(shown, all);
    COLUMNS.forEach((column, i) => {
      const direction = column.key !== this.sort ? "none" : this.descending ? "descending" : "ascending";
      setAttribute(this.heads[i]!, "aria-sort", direction);
    });
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.onMore.disconnect();
    this.detail.destroy();
  }

  /** A picked block that nobody holds has no row: who let it go is told above the table. */
  private drawBlock(): void {
    const { session } = this.context;
    const { block, request } = session.selection;
    const state = session.store.stateAt(session.cursor);
    const told =
      block === null || request !== null || state === null
        ? null
        : blockWhy(session.store, session.cursor, state, block);
    this.block.hidden = told === null;
    const key = told === null ? "" : `${told.text} ${told.step}`;
    if (key === this.blockShown) return;
    this.blockShown = key;
    const link = (text: string, title: string, onclick: () => void): HTMLElement =>
      h("button", { type: "button", class: "iw-button", title, onclick }, text);
    this.block.replaceChildren(told?.text ?? "");
    if (told === null || told.step === null || told.request === null) return;
    const { step, request: by } = told;
    this.block.append(
      link(`step ${int(step)}`, "Move the time cursor to this step", () => session.setCursor(step)),
      link(`why ${by}?`, "Open this request", () => session.select({ request: by, block })),
    );
  }

  private update(shown: readonly RequestRow[], all: readonly RequestRow[]): void {
    const { selection, hovered, store, cursor } = this.context.session;
    const theme = this.context.theme();
    const keep = new Set(shown.map((row) => row.info.id));
    for (const [id, element] of this.rows) {
      if (keep.has(id)) continue;
      element.remove();
      this.rows.delete(id);
    }
    const order: HTMLTableRowElement[] = [];
    const told = shown.find((row) => row.info.id === selection.request);
    const telling = this.detail.draw(told);
    const grouped = this.sort === "state" && !this.descending;
    const states = new Map(all.map((row) => [row.info.id, groupOf(row.state)]));
    let under: Group | null = null;
    shown.forEach((row) => {
      const group = groupOf(row.state);
      if (grouped && group !== under) order.push(this.headOf(group, states));
      under = group;
      const element = this.rows.get(row.info.id) ?? this.make(row);
      order.push(element);
      if (row === told && telling) order.push(this.detail.element);
      const selected = selection.request === row.info.id;
      setAttribute(element, "aria-selected", String(selected));
      setAttribute(element, "data-state", row.state);
      element.classList.toggle("iw-hovered", hovered === row.info.id);
      setProperty(element, "--chip", theme.request(row.info.colour));
      COLUMNS.forEach((column, c) => {
        const cell = element.children[c]!;
        const target = c <= 1 ? cell.lastElementChild! : cell;
        setText(target, column.text(row));
        if (c === 2) setAttribute(cell, "title", column.text(row));
      });
    });
    if (!telling) this.detail.element.remove();
    const step = store.stateAt(cursor)?.step ?? -1;
    const live = cursor === "live";
    // Where every drawing has its crossings the rows would never rest: nothing to learn, and a processor's work.
    const wanted = grouped && !this.calm.matches && !(live && tooQuick(store));
    const crossings = this.motion.shown(step, states, live, wanted);
    const moving = crossings.flatMap(({ id, to }) => {
      const element = this.rows.get(id);
      return element === undefined ? [] : [{ element, to }];
    });
    const left = [...this.places].flatMap(([id, group]) => (states.get(id) === group ? [] : (this.rows.get(id) ?? [])));
    this.places = states;
    this.slide(moving, () => this.place(order, left));
    if (this.revealed !== this.detail.content) {
      this.revealed = this.detail.content;
      if (told !== undefined && telling) this.reveal(this.rows.get(told.info.id)!);
    }
  }

  /** Scroll the table, and nothing around it, so far that the story under a row is in sight. */
  private reveal(row: HTMLElement): void {
    const { top, bottom } = this.scroller.getBoundingClientRect();
    const below = this.detail.element.getBoundingClientRect().bottom - bottom;
    const above = row.getBoundingClientRect().top - top - this.heads[0]!.offsetHeight;
    if (below > 0 && above > 0) this.scroller.scrollTop += Math.min(below, above);
  }

  private headOf(group: Group, states: ReadonlyMap<string, Group>): HTMLTableRowElement {
    const [, title, more] = GROUPS.find(([name]) => name === group)!;
    let members = 0;
    for (const other of states.values()) if (other === group) members += 1;
    const head = this.groups.get(group)!;
    setText(head.querySelector("span")!, `${title} · ${count(members, "request")}${members > 1 ? more : ""}`);
    return head;
  }

  /** Rows that cross between queue and batch slide from where they were, past the line between the two. */
  private slide(moving: readonly { element: HTMLElement; to: "batch" | "queue" }[], place: () => void): void {
    if (moving.length === 0) {
      place();
      return;
    }
    const line = this.groups.get("queue")!;
    const top = (element: HTMLElement): number | null => (element.isConnected ? element.offsetTop : null);
    const sliding = [...moving, { element: line, to: null }].map((one) => ({ ...one, before: top(one.element) }));
    place();
    for (const { element, to, before } of sliding) {
      const after = top(element);
      if (before === null || after === null) continue;
      const from = { transform: `translateY(${before - after}px)` };
      // The line fades in, so that its words do not run over those of the row.
      const crosses = to !== null && `color-mix(in srgb, var(--iw-${TINTS[to]}) 34%, transparent)`;
      const look = crosses === false ? [{ opacity: 0 }, { opacity: 1 }] : [{ backgroundColor: crosses }, {}];
      element.animate(
        [
          { ...from, ...look[0] },
          { transform: "none", ...look[1] },
        ],
        {
          duration: MOTION_MS,
          easing: "ease-out",
        },
      );
    }
  }

  /** Bring the rows into an order and let go of all others. One that stays is not touched, one that moves keeps the focus.
   *
   * left: rows that left their group. They are taken out first, or else all that were behind them would be moved. */
  private place(order: readonly HTMLTableRowElement[], left: readonly HTMLTableRowElement[]): void {
    const focused = document.activeElement;
    for (const element of left) element.remove();
    order.forEach((element, i) => {
      if (this.body.children[i] !== element) this.body.insertBefore(element, this.body.children[i] ?? null);
    });
    while (this.body.children.length > order.length) this.body.lastElementChild!.remove();
    if (focused !== document.activeElement && focused instanceof HTMLElement && this.body.contains(focused)) {
      focused.focus({ preventScroll: true });
    }
  }

  private make(row: RequestRow): HTMLTableRowElement {
    const { id, label } = row.info;
    const { session } = this.context;
    const toggle = (): void => session.select(session.selection.request === id ? {} : { request: id });
    const element = h(
      "tr",
      {
        tabindex: "0",
        "data-testid": `request-${id}`,
        onclick: toggle,
        onpointerenter: () => session.hover(id),
        onkeydown: (event: KeyboardEvent) => {
          if (event.key !== "Enter") return;
          toggle();
          event.preventDefault();
        },
      },
      ...COLUMNS.map((column) => h("td", { class: column.numeric ? "iw-num" : "" })),
    );
    element.children[0]!.append(h("span", { class: "iw-chip" }), h("b"));
    element.children[0]!.setAttribute("title", label);
    element.children[1]!.append(h("span", { class: "iw-state" }));
    element.children[2]!.classList.add("iw-why");
    this.rows.set(id, element);
    return element;
  }

  private showMore(): void {
    this.most += ROWS;
    this.drawn = 0;
    this.context.invalidate();
  }

  private sortBy(key: SortKey): void {
    this.descending = this.sort === key ? !this.descending : key !== "state";
    this.sort = key;
    this.context.invalidate();
  }
}
