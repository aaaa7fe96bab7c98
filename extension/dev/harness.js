// Plays a recorded trace to the views through the widget protocol, as a kernel would.
// Query: view=dashboard,blocks  theme=dark|light  trace=out/trace.json  speed=steps per second  until=step  state=…
// message=why it stopped  breaks=names of breakpoints  host=vscode|colab instead of JupyterLab  blocks=N an artificial trace of so many blocks instead of a file
/* global document, location, setTimeout, fetch, setInterval, performance, TextEncoder, URLSearchParams, window */

const query = new URLSearchParams(location.search);
dress(query.get("host"), query.get("theme") ?? "light");

/** Marks the page as the host does; no name stands for JupyterLab. */
function dress(name, theme) {
  if (name === null) {
    document.body.dataset.jpThemeLight = String(theme !== "dark");
    return;
  }
  // As the widget managers of these hosts do, whatever the page's theme is.
  const root = document.documentElement;
  root.style.cssText = "--jp-layout-color0: white; --jp-ui-font-color0: black; --jp-ui-font-family: Helvetica";
  if (name === "vscode") {
    root.style.setProperty("--vscode-editor-background", theme === "dark" ? "#1f1f1f" : "#ffffff");
    document.body.style.background = "var(--vscode-editor-background)";
    document.body.classList.add("vscode-body", `vscode-${theme}`);
  } else if (name === "colab") {
    window.google = { colab: {} };
    if (theme === "dark") root.setAttribute("theme", "dark");
  }
}

class Kernel {
  constructor(trace, speed, until) {
    this.trace = trace;
    this.listeners = new Set();
    this.speed = speed;
    this.next = 0;
    this.sent = 0;
    this.seq = 0;
    this.texts = trace.payload.texts;
    this.paused = false;
    this.credit = 0;
    this.subscribed = false;
    this.dead = false;
    this.unacked = 0;
    this.quiet = 0;
    this.limits = { ...trace.payload.status };
    this.commands = [];
    this.jobs = {};
    this.message = query.get("message");
    this.breakpoints = query.get("breaks")?.split(",") ?? [];
    const { records } = trace.payload;
    this.next = until === null || until < 0 ? 0 : records.findIndex((r) => r.step >= until) + 1 || records.length;
    let before = performance.now();
    setInterval(() => {
      const now = performance.now();
      this.tick((now - before) / 1000);
      before = now;
    }, 50);
  }

  get mode() {
    if (query.get("state") !== null) return query.get("state");
    if (this.paused) return "paused";
    return this.next < this.trace.payload.records.length ? "running" : "idle";
  }

  tick(seconds) {
    if (this.mode === "running") {
      this.credit += seconds * (this.speed ?? 400);
      const n = Math.floor(this.credit);
      this.credit -= n;
      this.next = Math.min(this.trace.payload.records.length, this.next + n);
    }
    this.quiet += seconds;
    const due = this.sent < this.next || this.quiet > 1;
    if (this.subscribed && due && this.unacked < 30) this.frame(false);
  }

  frame(keyframe) {
    const { payload } = this.trace;
    const records = payload.records.slice(keyframe ? 0 : this.sent, this.next);
    const last = payload.records[this.next - 1];
    const message = {
      ...(keyframe ? { snapshot: payload.snapshot } : {}),
      records,
      texts: this.texts,
      status: {
        ...this.limits,
        state: this.mode,
        speed: this.speed,
        step: last?.step ?? -1,
        time: (last?.time ?? 0) + 0.004,
        message: this.message,
        breakpoints: this.breakpoints,
        jobs: this.jobs,
      },
    };
    this.texts = {};
    this.quiet = 0;
    this.sent = this.next;
    this.unacked += 1;
    const bytes = new TextEncoder().encode(JSON.stringify(message));
    this.emit({ type: "frame", seq: ++this.seq, keyframe }, [new DataView(bytes.buffer)]);
  }

  emit(content, buffers = []) {
    if (this.dead) return;
    for (const listener of this.listeners) listener(content, buffers);
  }

  receive(message) {
    if (this.dead) return;
    if (message.type === "ack") this.unacked = this.seq - message.seq;
    else if (message.type === "unsubscribe") this.subscribed = false;
    else if (message.type === "subscribe") {
      this.emit({ type: "hello", protocol: 2, engine: this.trace.engine });
      this.subscribed = true;
      this.frame(true);
    } else if (message.type === "command") {
      const { id, name, args } = message;
      const fail = (kind, text) => this.emit({ type: "reply", id, ok: false, error: { kind, message: text } });
      if (name === "submit") return fail("HarnessError", "A recorded trace takes no prompts.");
      if (name === "configure" && args.max_num_seqs > 64) {
        return fail("ConfigError", `max_num_seqs=${args.max_num_seqs} is more than this harness allows (64)`);
      }
      if (name === "configure" && args.scheduling_policy === "sjf") {
        return fail("PolicyError", "policy 'sjf' was refused, 'fcfs' stays");
      }
      if (name === "pause") this.paused = true;
      if (name === "resume") this.paused = false;
      if (name === "set_speed") this.speed = args.steps_per_second;
      if (name === "configure") Object.assign(this.limits, args);
      if (name === "break_on") this.breakpoints = [...this.breakpoints, breakpointName(args)];
      if (name === "clear_breakpoints") this.breakpoints = [];
      this.commands.push([name, args]);
      if (name === "step") {
        this.paused = true;
        this.next = Math.min(this.trace.payload.records.length, this.next + args.n);
      }
      if (name === "traffic_preview" && args.recipe.rate > 100) return fail("ConfigError", "rate is too high");
      if (name === "traffic_start") {
        if (this.jobs.traffic?.state === "running") return fail("ConfigError", "traffic is on its way already");
        const total = this.trace.preview.requests.length;
        this.jobs.traffic = { state: "running", name: "poisson", total, sent: 9, finished: 4, message: null };
      }
      if (name === "traffic_stop") this.jobs.traffic.state = "stopped";
      const results = {
        why: this.trace.why[args.request_id],
        traffic_preview: this.trace.preview,
        what_if: this.trace.comparison,
      };
      this.emit({ type: "reply", id, ok: true, result: results[name] ?? null });
      this.frame(false);
    }
  }
}

/** As workbench/engine/breakpoints.py names them. */
function breakpointName({ event, request, free_blocks_under: blocks, step_longer_than: seconds }) {
  if (event !== undefined) return request === undefined ? event : `${event} of ${request}`;
  return blocks !== undefined ? `fewer than ${blocks} free blocks` : `a step over ${seconds * 1000} ms`;
}

/** A made-up run for measuring: a full pool of `blocks`, in which each step one of 400 requests ends and one begins. */
function artificialTrace(trace, blocks, steps) {
  const tables = Array.from({ length: 400 }, () => []);
  for (let b = 0; b < blocks; b++) tables[(b * 7919) % 400].push(b);
  const ids = tables.map((_, i) => `r${i}`);
  const state = (id, blocks) => [id, id, "", 0, 0, 1e6, new Array(8).fill(1), [], blocks * 16, 0];
  const pool = [blocks, 16, "bfloat16", 24576];
  const snapshot = {
    step: -1,
    pool,
    block_tables: Object.fromEntries(ids.map((id, i) => [id, [...tables[i]]])),
    ref_counts: new Array(blocks).fill(1),
    block_hashes: new Array(blocks).fill(""),
    free_blocks: [],
    waiting: [],
    running: ids,
    requests: Object.fromEntries(ids.map((id, i) => [id, state(id, tables[i].length)])),
  };
  const running = [...ids];
  const records = Array.from({ length: steps }, (_, step) => {
    const slot = step % 400;
    const [old, id] = [running[slot], `s${step}`];
    running[slot] = id;
    const freed = tables[slot].map((b) => ["free", b, old, ""]).reverse();
    return {
      ...{ step, time: step * 0.05, times: [1e-4, 1e-4, 1e-3, 1e-4, 1e-4], changes: [] },
      arrivals: [[id, step * 0.05, [1, 2, 3], 1e6, 0, id, ""]],
      decisions: [[...running], running.map(() => 64), [[slot, [id, "prefill", "admitted", 1, 64, 0, 0, 0, ""]]]],
      sampled: [[], [], [], []],
      block_events: [...freed, ...tables[slot].map((b) => ["allocate", b, id, ""])],
      finished: [[old, "length", ""]],
      num_scheduled_tokens: 400,
      token_budget: 512,
      max_num_seqs: 400,
      num_free_blocks: 0,
      pool,
    };
  });
  return { engine: { ...trace.engine, num_blocks: blocks }, payload: { ...trace.payload, snapshot, records } };
}

function modelFor(kernel, view, height) {
  const values = { view, engine_id: kernel.trace.engine.engine_id, height, comparison: kernel.trace.comparison };
  let callbacks = [];
  return {
    get: (name) => values[name],
    set: (name, value) => void (values[name] = value),
    save_changes: () => undefined,
    on(name, callback) {
      callbacks.push([name, callback]);
      if (name === "msg:custom") kernel.listeners.add(callback);
    },
    off(name, callback) {
      kernel.listeners.delete(callback);
      callbacks = callbacks.filter((entry) => entry[0] !== name || entry[1] !== callback);
    },
    send: (message) => void setTimeout(() => kernel.receive(message), 0),
    fire(name) {
      for (const [registered, callback] of callbacks) if (registered === name) callback();
    },
  };
}

const { default: widget } = await import("../../workbench/widgets/static/workbench.js");
const trace = await (await fetch(query.get("trace") ?? "out/trace.json")).json();
const artificial = query.get("blocks");
const number = (name) => (query.get(name) === null ? null : Number(query.get(name)));
const played = artificial === null ? trace : artificialTrace(trace, Number(artificial), 2000);
const kernel = new Kernel(played, number("speed"), number("until"));
if (query.get("paused") !== null) kernel.paused = true;
const host = document.getElementById("views");
window.harness = { kernel, models: [], cleanups: [], lose };

/** The kernel is gone, and what was on its way to it too. */
function lose() {
  kernel.dead = true;
  for (const model of window.harness.models) model.fire("comm:close");
}

for (const view of (query.get("view") ?? "dashboard").split(",")) {
  const el = document.createElement("div");
  el.style.marginBottom = "12px";
  host.append(el);
  const model = modelFor(kernel, view, number("height") ?? 0);
  window.harness.models.push(model);
  window.harness.cleanups.push(widget.render({ model, el }));
}
