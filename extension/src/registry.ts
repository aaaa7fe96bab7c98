// The sessions of a page. Each widget imports its own copy of this bundle, so they meet on globalThis.

import { Session } from "./session.ts";
import type { Source } from "./source.ts";

const KEY = Symbol.for("inference-workbench");

interface Registry {
  readonly sessions: Map<string, Session>;
}

function registry(): Registry {
  const page = globalThis as { [KEY]?: Registry };
  page[KEY] ??= { sessions: new Map() };
  return page[KEY];
}

/** The page's session of an engine with `source` attached, and what takes it off again. */
export function joinSession(engineId: string, source: Source): { session: Session; leave: () => void } {
  const { sessions } = registry();
  let session = sessions.get(engineId);
  if (session === undefined) {
    session = new Session(engineId);
    sessions.set(engineId, session);
  }
  const joined = session;
  const detach = joined.attach(source);
  return {
    session: joined,
    leave: () => {
      detach();
      if (joined.unused && sessions.get(engineId) === joined) sessions.delete(engineId);
    },
  };
}
