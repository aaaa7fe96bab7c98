import assert from "node:assert/strict";
import { test } from "node:test";

import { chooseEngine } from "../src/lab/engine_choice.ts";
import { KernelLink, type KernelConnection } from "../src/lab/kernel_link.ts";
import { keystroke } from "../src/lab/keystroke.ts";
import { PROTOCOL_VERSION } from "../src/protocol.ts";
import type { EngineSummary, ToKernel } from "../src/lab/lab_protocol.ts";
import { layoutOf, viewsOf } from "../src/lab/layouts.ts";
import { freeName, playgroundNotebook } from "../src/lab/playground_notebook.ts";
import { sidebarGroups } from "../src/lab/sidebar_model.ts";
import { marksOf, Stills } from "../src/lab/stills.ts";
import { commandable, whichEngine } from "../src/lab/words.ts";
import { sessionOf } from "../src/registry.ts";
import { NUM_HUES, PALETTE_NAMES, paletteOf } from "../src/ui/palettes.ts";
import { payload, recordedTrace, shortRun, snapshot } from "./support.ts";

function summary(engine_id: string, ordinal: number, changes: Partial<EngineSummary> = {}): EngineSummary {
  return {
    engine_id,
    ordinal,
    model: "m",
    device: "cpu",
    dtype: "float32",
    state: "idle",
    message: null,
    step: -1,
    tokens_per_second: 0,
    num_running: 0,
    num_waiting: 0,
    num_used_blocks: 0,
    num_blocks: 8,
    ...changes,
  };
}

class FakeComm {
  onMsg: (message: unknown) => void = () => undefined;
  onClose: () => void = () => undefined;
  readonly sent: ToKernel[] = [];
  subshellStarted = Promise.resolve();
  _subshellId: string | null = null;
  opened = false;
  closed = false;
  isDisposed = false;
  open(): void {
    this.opened = true;
  }
  send(data: ToKernel): void {
    if (this.closed) throw new Error("Cannot send");
    this.sent.push(data);
  }
  close(): void {
    this.closed = true;
  }
  receive(data: unknown, value?: unknown): void {
    const buffers = value === undefined ? [] : [new TextEncoder().encode(JSON.stringify(value))];
    this.onMsg({ content: { data }, buffers });
  }
  list(...engines: EngineSummary[]): void {
    this.receive({ type: "engines", protocol: PROTOCOL_VERSION, engines });
  }
  messages(engineId: string): unknown[] {
    return this.sent.flatMap((m) => (m.type === "engine" && m.engine_id === engineId ? [m.message] : []));
  }
}

class FakeKernel {
  supportsSubshells = true;
  /** Subshells that were asked for over the control channel and those that were given back. */
  readonly lent: string[] = [];
  readonly returned: string[] = [];
  create(): Promise<string> {
    this.lent.push(`subshell-${this.lent.length}`);
    return Promise.resolve(this.lent.at(-1)!);
  }
  remove(id: string): Promise<void> {
    this.returned.push(id);
    return Promise.resolve();
  }
  readonly id: string;
  readonly comms: FakeComm[] = [];
  announced = false;
  announce: (() => void) | null = null;
  asked = 0;
  constructor(id = "k") {
    this.id = id;
  }
  createComm(): FakeComm {
    this.comms.push(new FakeComm());
    return this.comms.at(-1)!;
  }
  registerCommTarget(_: string, callback: () => void): void {
    this.announce = callback;
  }
  removeCommTarget(): void {
    this.announce = null;
  }
  requestCommInfo(): Promise<unknown> {
    this.asked += 1;
    return Promise.resolve({ content: { status: "ok", comms: this.announced ? { c: {} } : {} } });
  }
}

const settled = (): Promise<void> => new Promise((done) => setTimeout(done, 5));

function link(kernel: FakeKernel, known: Set<string> = new Set()): { link: KernelLink; known: Set<string> } {
  const memory = { has: (id: string) => known.has(id), add: (id: string) => known.add(id), hasSubshells: () => false };
  const made = new KernelLink(kernel as unknown as KernelConnection, memory as never, kernel, () => undefined);
  return { link: made, known };
}

test("a kernel that never heard of the workbench is asked once and left alone", async () => {
  const kernel = new FakeKernel();
  link(kernel);
  await settled();
  assert.equal(kernel.asked, 1);
  assert.equal(kernel.comms.length, 0);
});

test("a kernel that has announced itself before, does so later, or is remembered is connected to", async () => {
  for (const how of ["before", "later", "remembered"]) {
    const kernel = new FakeKernel(how);
    kernel.announced = how === "before";
    const { link: made, known } = link(kernel, new Set(how === "remembered" ? [how] : []));
    await settled();
    if (how === "later") kernel.announce!();
    await settled();
    assert.equal(kernel.comms.length, 1, how);
    assert.ok(kernel.comms[0]!.opened);
    assert.equal(made.connected, false);
    kernel.comms[0]!.list(summary("a", 1));
    assert.ok(made.connected);
    assert.ok(known.has(how));
    assert.deepEqual(
      made.engines.map((e) => e.engine_id),
      ["a"],
    );
    made.dispose();
    assert.ok(kernel.comms[0]!.closed);
    assert.equal(kernel.announce, null);
  }
});

test("a kernel that was asked and is busy is waited for, and no longer once it has answered or refused", async () => {
  const kernel = new FakeKernel();
  const { link: made } = link(kernel, new Set(["k"]));
  assert.equal(made.awaited, true);
  await settled();
  assert.equal(made.awaited, true);
  kernel.comms[0]!.list();
  assert.equal(made.awaited, false);
  assert.equal(made.hearsBetweenCells, false);
  kernel.supportsSubshells = false;
  assert.equal(made.hearsBetweenCells, true);
  made.drop();
  assert.equal(made.hearsBetweenCells, false, "nothing is said of a kernel that has not answered");
  kernel.supportsSubshells = true;
  assert.equal(made.awaited, false);
  void made.probe();
  await settled();
  kernel.comms[1]!.onClose();
  assert.equal(made.awaited, false);
  made.dispose();
});

test("after a reload during a running cell the comm goes over a subshell of its own until JupyterLab has one", async () => {
  const kernel = new FakeKernel();
  kernel.supportsSubshells = false; // the kernel has not said yet
  let start = (): void => undefined;
  const started = new Promise<void>((resolve) => (start = resolve));
  kernel.createComm = () => {
    const comm = new FakeComm();
    comm.subshellStarted = started;
    kernel.comms.push(comm);
    return comm;
  };
  const marks = new Map([["k", true]]);
  const memory = {
    has: (id: string) => marks.has(id),
    hasSubshells: (id: string) => marks.get(id),
    add: () => undefined,
  };
  const made = new KernelLink(kernel as unknown as KernelConnection, memory as never, kernel, () => undefined);
  await settled();
  assert.deepEqual(kernel.lent, ["subshell-0"]);
  assert.equal(kernel.comms[0]!._subshellId, "subshell-0");
  assert.equal(kernel.comms[0]!.opened, true);
  assert.deepEqual(kernel.returned, []);
  start();
  await settled();
  assert.deepEqual(kernel.returned, ["subshell-0"]);
  made.dispose();
  // A kernel that never had any is not asked for one.
  marks.set("k", false);
  const again = new KernelLink(kernel as unknown as KernelConnection, memory as never, kernel, () => undefined);
  await settled();
  assert.equal(kernel.lent.length, 1);
  again.dispose();
});

test("an engine that was shut down or has failed takes no commands", () => {
  const states = ["running", "idle", "paused", "closed", "error"] as const;
  assert.deepEqual(
    states.map((state) => commandable(summary("a", 1, { state }))),
    [true, true, true, false, false],
  );
});

test("a refused comm is let go, and a restart is followed by a new comm", async () => {
  const kernel = new FakeKernel();
  const { link: made } = link(kernel, new Set(["k"]));
  await settled();
  kernel.comms[0]!.onClose();
  assert.equal(made.connected, false);
  kernel.announce!();
  await settled();
  kernel.comms[1]!.list(summary("a", 1));
  made.drop();
  assert.equal(made.engines.length, 0);
  kernel.comms[1]!.list(summary("stale", 1));
  assert.equal(made.engines.length, 0, "what the old process still sends is not listened to");
  kernel.announce!();
  await settled();
  kernel.comms[2]!.list(summary("b", 1));
  assert.equal(made.engines[0]!.engine_id, "b");
  made.dispose();
});

test("panels of one engine share one stream, which ends with the last of them", async () => {
  const kernel = new FakeKernel();
  const { link: made } = link(kernel, new Set(["k"]));
  await settled();
  const comm = kernel.comms[0]!;
  comm.list(summary("demo", 1));
  const one = made.share("demo");
  const two = made.share("demo");
  assert.equal(one.session, two.session);
  assert.deepEqual(comm.messages("demo"), [{ type: "subscribe" }]);
  const wrap = (message: unknown): unknown => ({ type: "engine", engine_id: "demo", message });
  comm.receive(wrap({ type: "hello", protocol: PROTOCOL_VERSION, engine: recordedTrace().engine }));
  comm.receive(wrap({ type: "frame", seq: 1, keyframe: true }), payload(shortRun(), snapshot()));
  assert.equal(one.session.connection, "live");
  assert.equal(one.session.store.lastStep, 3);
  one.release();
  one.release();
  assert.equal(sessionOf("demo"), two.session);
  assert.equal(comm.messages("demo").length, 2);
  two.release();
  assert.deepEqual(comm.messages("demo").at(-1), { type: "unsubscribe" });
  assert.equal(sessionOf("demo"), undefined);
  made.dispose();
});

test("a stream that broke is asked for again when the kernel is back, and the view says so meanwhile", async () => {
  const kernel = new FakeKernel();
  const { link: made } = link(kernel, new Set(["k"]));
  await settled();
  kernel.comms[0]!.list(summary("demo", 1));
  const shared = made.share("demo");
  made.drop();
  assert.equal(shared.session.connection, "lost");
  void made.probe();
  await settled();
  kernel.comms[1]!.list(summary("demo", 1));
  assert.deepEqual(kernel.comms[1]!.messages("demo").at(-1), { type: "subscribe" });
  shared.release();
  made.dispose();
});

test("a command is answered by its reply, and one to a lost kernel fails at once", async () => {
  const kernel = new FakeKernel();
  const { link: made } = link(kernel, new Set(["k"]));
  await settled();
  const comm = kernel.comms[0]!;
  comm.list(summary("a", 1));
  const answer = (ok: boolean): void => {
    const { id } = comm.messages("a").at(-1) as { id: string };
    const message = { type: "reply", id, ok, ...(ok ? { result: 7 } : { error: { kind: "E", message: "no" } }) };
    comm.receive({ type: "engine", engine_id: "a", message });
  };
  const first = made.command("a", "pause", {});
  answer(true);
  assert.equal(await first, 7);
  const second = made.command("a", "step", { n: 1 });
  answer(false);
  await assert.rejects(second, /no/);
  made.drop();
  await assert.rejects(made.command("a", "pause", {}), /not connected/);
  made.dispose();
});

test("the list is watched only while somebody looks", async () => {
  const kernel = new FakeKernel();
  const { link: made } = link(kernel, new Set(["k"]));
  made.watch(0.5);
  await settled();
  const comm = kernel.comms[0]!;
  assert.deepEqual(comm.sent, []);
  comm.list();
  made.watch(0.5);
  made.watch(null);
  assert.deepEqual(comm.sent, [
    { type: "watch", seconds: 0.5 },
    { type: "watch", seconds: null },
  ]);
  made.dispose();
});

test("another protocol is named", async () => {
  const kernel = new FakeKernel();
  const { link: made } = link(kernel, new Set(["k"]));
  await settled();
  kernel.comms[0]!.receive({ type: "engines", protocol: PROTOCOL_VERSION + 1, engines: [] });
  assert.match(made.problem ?? "", /reload/);
  made.dispose();
});

test("a panel keeps its engine, then takes the one in its place, then the newest alive", () => {
  const wanted = { engineId: "b", ordinal: 2 };
  const choose = (...engines: EngineSummary[]): string | undefined => chooseEngine(wanted, engines)?.engine_id;
  assert.equal(choose(summary("a", 1), summary("b", 2), summary("c", 3)), "b");
  assert.equal(choose(summary("a", 1), summary("b", 2, { state: "closed" })), "b");
  // After a restart the cells are run again one by one: the first engine is shown until the second is there.
  assert.equal(choose(summary("A", 1)), "A");
  assert.equal(choose(summary("A", 1), summary("B", 2)), "B");
  assert.equal(
    chooseEngine({ engineId: "A", ordinal: 2 }, [summary("A", 1), summary("B", 2)])?.engine_id,
    "B",
    "a panel that made do with another one moves on",
  );
  // The same cell run again without a restart.
  assert.equal(choose(summary("c", 3), summary("d", 4)), "d");
  assert.equal(choose(summary("c", 3), summary("d", 4, { state: "closed" })), "c");
  assert.equal(choose(), undefined);
});

test("the sidebar lists each kernel once, with its notebooks, and only kernels with engines", () => {
  const place = (path: string, kernelId: string, engines: EngineSummary[], busy = false) => ({
    path,
    name: path.split("/").at(-1)!,
    kernelName: "Python 3",
    busy,
    link: { kernelId, engines, hearsBetweenCells: kernelId === "k3" },
  });
  const groups = sidebarGroups([
    place("x/one.ipynb", "k1", [summary("a", 1), summary("b", 2)], true),
    place("two.ipynb", "k2", []),
    place("three.ipynb", "k1", [summary("a", 1), summary("b", 2)], true),
    place("four.ipynb", "k3", [summary("c", 1)]),
  ]);
  assert.deepEqual(
    groups.map((g) => [g.title, g.path, g.detail, g.engines.length]),
    [
      ["one.ipynb, three.ipynb", "x/one.ipynb", "Python 3 · busy", 2],
      ["four.ipynb", "four.ipynb", "Python 3 · idle", 1],
    ],
  );
  // What works without subshells is said where they are missing.
  assert.equal(groups[0]!.note, "");
  assert.match(groups[1]!.note, /acts when it ends/);
});

test("every layout shows each view once and gives all of the room away", () => {
  for (const name of ["beside", "below", "dashboard"] as const) {
    for (const height of [930, 740]) {
      const layout = layoutOf(name, height);
      const views = viewsOf(layout.views);
      assert.equal(new Set(views).size, views.length);
      assert.equal(views.includes("dashboard"), name === "dashboard");
      if (name !== "dashboard") assert.equal(views.length, 7);
      const check = (area: typeof layout.views): void => {
        if ("views" in area) return;
        const total = area.sizes.reduce((a, b) => a + b);
        assert.ok(Math.abs(total - 1) < 1e-9, `${name}: ${total}`);
        assert.equal(area.sizes.length, area.parts.length);
        area.parts.forEach(check);
      };
      check(layout.views);
    }
  }
});

test("a new playground takes a name that is free and runs on the kernel it is given", () => {
  assert.equal(freeName("playground", new Set()), "playground.ipynb");
  assert.equal(freeName("playground", new Set(["playground.ipynb", "playground-2.ipynb"])), "playground-3.ipynb");
  const made = playgroundNotebook({ name: "py", display_name: "Python", language: "python" } as never);
  assert.deepEqual(made["metadata"], { kernelspec: { name: "py", display_name: "Python", language: "python" } });
  const cells = made["cells"] as { cell_type: string; outputs?: unknown[]; id: string }[];
  assert.ok(cells.every((cell) => (cell.cell_type === "code") === (cell.outputs !== undefined)));
  assert.equal(new Set(cells.map((cell) => cell.id)).size, cells.length);
});

test("key presses are written as JupyterLab writes them", () => {
  const none = { ctrlKey: false, altKey: false, shiftKey: false, metaKey: false };
  assert.equal(keystroke({ ...none, key: "F8" }), "F8");
  assert.equal(keystroke({ ...none, key: "F8", shiftKey: true }), "Shift F8");
  assert.equal(keystroke({ ...none, key: "p", ctrlKey: true, altKey: true }), "Ctrl Alt P");
});

test("every palette has a colour for every request", () => {
  for (const name of PALETTE_NAMES) {
    for (const shade of ["light", "dark"] as const) {
      assert.equal(new Set(paletteOf(name)[shade]).size, NUM_HUES, `${name}, ${shade}`);
    }
  }
  assert.equal(paletteOf("unknown"), paletteOf("workbench"));
});

/** As much of JupyterLab's notebook as pictures need: one cell with outputs, and what its kernel publishes. */
class FakeNotebook {
  readonly outputs: { data?: Record<string, unknown>; metadata?: object }[];
  written = 0;
  private publishers: ((sender: unknown, message: unknown) => void)[] = [];
  readonly sessionContext = {
    iopubMessage: {
      connect: (listener: (sender: unknown, message: unknown) => void) => this.publishers.push(listener),
    },
    disposed: { connect: () => true },
  };
  context = { ready: Promise.resolve(), isReady: true };
  readonly content;
  constructor(...outputs: { data?: Record<string, unknown>; metadata?: object }[]) {
    this.outputs = outputs;
    const model = {
      length: outputs.length,
      get: (index: number) => ({ data: outputs[index]!.data, toJSON: () => outputs[index]! }),
      set: (index: number, output: object) => {
        this.written += 1;
        outputs[index] = output;
      },
    };
    this.content = { widgets: [], model: { cells: [{}, { outputs: model }] } };
  }
  publish(type: string, html: unknown): void {
    const message = { header: { msg_type: type }, content: { data: { "text/html": html } } };
    for (const listener of this.publishers) listener(null, message);
  }
}

function still(id: string, edition: number, says = ""): string {
  return `<div class="iw-still" data-engine="e" data-still="${id}" data-edition="${edition}">${says}</div>`;
}

test("a picture that the kernel publishes is written where its id is, once, and nothing else is touched", () => {
  const notebook = new FakeNotebook(
    { data: { "text/plain": "iw-still" } },
    { data: { "text/html": ["<div class=", still("a", 1).slice(11)] }, metadata: { kept: 1 } },
    {},
  );
  const stills = new Stills(() => []);
  stills.follow(notebook);
  stills.follow(notebook);
  stills.follow({ sessionContext: notebook.sessionContext }); // a console
  notebook.publish("update_display_data", still("b", 2));
  notebook.publish("display_data", still("a", 2));
  notebook.publish("update_display_data", "<p>a table</p>");
  notebook.publish("update_display_data", still("a", 1, "the same"));
  assert.equal(notebook.written, 0);
  notebook.publish("update_display_data", still("a", 2, "new"));
  assert.equal(notebook.written, 1);
  assert.deepEqual(notebook.outputs[1], { data: { "text/html": still("a", 2, "new") }, metadata: { kept: 1 } });
  assert.equal(marksOf({ data: { "text/html": `<b></b>${still("a", 2)}` } }), null);
});

test("a kernel that has answered is asked once for the pictures that its notebook holds, and again after a loss", async () => {
  const notebook = new FakeNotebook({ data: { "text/html": still("a", 3) } }, { data: { "text/html": still("b", 1) } });
  const asked: object[] = [];
  const link = { connected: false, askStills: (editions: object) => asked.push(editions) };
  const stills = new Stills(() => [{ context: notebook.sessionContext, link }] as never);
  stills.follow(notebook);
  await settled();
  assert.deepEqual(asked, []);
  link.connected = true;
  stills.catchUp();
  stills.catchUp();
  assert.deepEqual(asked, [{ a: "3", b: "1" }]);
  link.connected = false;
  stills.catchUp();
  link.connected = true;
  stills.catchUp();
  assert.equal(asked.length, 2);
});

test("a kernel that answers before the notebook's file is read is asked once that has its cells", async () => {
  const notebook = new FakeNotebook({ data: { "text/html": still("a", 3) } });
  const { cells } = notebook.content.model;
  let read = (): void => {};
  notebook.context = { ready: new Promise<void>((done) => (read = done)), isReady: false };
  notebook.content.model.cells = [];
  const asked: object[] = [];
  const link = { connected: true, askStills: (editions: object) => asked.push(editions) };
  const stills = new Stills(() => [{ context: notebook.sessionContext, link }] as never);
  stills.follow(notebook);
  stills.catchUp();
  assert.deepEqual(asked, []);
  notebook.context.isReady = true;
  notebook.content.model.cells = cells;
  read();
  await settled();
  assert.deepEqual(asked, [{ a: "3" }]);
});

test("a panel's title tells its engine from the others, and says no more than that", () => {
  const [story, other] = [
    { name: "story.ipynb", link: {} },
    { name: "other.ipynb", link: {} },
  ];
  const [first, second] = [summary("a", 1), summary("b", 2)];
  assert.equal(whichEngine(first, story, [story]), "");
  assert.equal(whichEngine(second, story, [story, story]), " #2");
  assert.equal(whichEngine(first, story, [story, other]), " · story.ipynb");
  assert.equal(whichEngine(second, story, [story, story, other]), " #2 · story.ipynb");
});
