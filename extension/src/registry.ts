// The sessions of a page. Each widget imports its own copy of this bundle, so they meet on globalThis.

import { Session } from "./session.ts";
import type { Source } from "./source.ts";

const KEY = Symbol.for("inference-workbench");

interface Registry {
  readonly sessions: Map<string, Session>;
  readonly holders: Map<Session, number>;
  /** What asks a kernel for a stream again. */
  readonly streams: Set<() => void>;
  updatesPerSecond: number | null;
}

function registry(): Registry {
  const page = globalThis as { [KEY]?: Registry };
  page[KEY] ??= { sessions: new Map(), holders: new Map(), streams: new Set(), updatesPerSecond: null };
  return page[KEY];
}

/** The page's session of an engine, kept with its trace, cursor and selection until everybody has released it. */
export function holdSession(engineId: string): { session: Session; release: () => void } {
  const { sessions, holders } = registry();
  const session = sessions.get(engineId) ?? new Session(engineId);
  sessions.set(engineId, session);
  holders.set(session, (holders.get(session) ?? 0) + 1);
  return {
    session,
    release: () => {
      const left = (holders.get(session) ?? 1) - 1;
      holders.set(session, left);
      if (left > 0) return;
      holders.delete(session);
      if (sessions.get(engineId) === session) sessions.delete(engineId);
    },
  };
}

/** The page's session of an engine with `source` attached, and what takes it off again. */
export function joinSession(engineId: string, source: Source): { session: Session; leave: () => void } {
  const { session, release } = holdSession(engineId);
  const detach = session.attach(source);
  return {
    session,
    leave: () => {
      detach();
      release();
    },
  };
}

/** The page's session of an engine, if some view shows it. */
export function sessionOf(engineId: string): Session | undefined {
  return registry().sessions.get(engineId);
}

/** Have kernels send this page so many frames a second at most, to panels and to cells; null: as many as they do. */
export function setUpdates(perSecond: number | null): void {
  const page = registry();
  if (page.updatesPerSecond === perSecond) return;
  page.updatesPerSecond = perSecond;
  for (const askAgain of [...page.streams]) askAgain();
}

/** What a request for a stream says of it. */
export function wantedUpdates(): { updates_per_second?: number } {
  const { updatesPerSecond } = registry();
  return updatesPerSecond === null ? {} : { updates_per_second: updatesPerSecond };
}

/** Call `askAgain` whenever the page wants another rate, until the result is called. */
export function onOtherUpdates(askAgain: () => void): () => void {
  const { streams } = registry();
  streams.add(askAgain);
  return () => streams.delete(askAgain);
}
