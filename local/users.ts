/** Users of Auth as GoTrue stores and shows them (supabase/auth, internal/models). */
import type postgres from "postgres";

type Metadata = Record<string, unknown>;

export interface Changes {
  email?: string;
  role?: string;
  password?: string;
  email_confirm?: boolean;
  /** Keys whose value is null are removed. */
  user_metadata?: Metadata;
  app_metadata?: Metadata;
  /** 0 ends a ban. */
  ban_ms?: number;
}

export type User = Record<string, unknown>;

/** A row of auth.users: metadata parsed, timestamps as JSON text. */
type Row = Record<string, string | null> & { raw_user_meta_data: Metadata | null; raw_app_meta_data: Metadata | null };

export class Users {
  constructor(readonly sql: postgres.Sql) {}

  async find(id: string): Promise<User | undefined> {
    const [row] = await this.sql<Row[]>`select * from auth.users where id = ${id}`;
    if (!row) return undefined;
    return userOf(row, await this.sql<Row[]>`select * from auth.identities where user_id = ${id} order by created_at`);
  }

  async list(of: { page: number; perPage: number; ascending: boolean; filter: string }) {
    const { sql } = this;
    const like = `%${of.filter}%`;
    const matching = of.filter
      ? sql`aud = 'authenticated' and (email like ${like} or raw_user_meta_data ->> 'full_name' ilike ${like})`
      : sql`aud = 'authenticated'`;
    const [{ total }] = await sql<{ total: number }[]>`
      select count(*)::integer as total from auth.users where ${matching}`;
    const rows = await sql<Row[]>`
      select * from auth.users where ${matching}
      order by ${of.ascending ? sql`created_at, id` : sql`created_at desc, id desc`}
      limit ${of.perPage} offset ${(of.page - 1) * of.perPage}`;
    return { total, list: rows.map((row) => userOf(row, null)) };
  }

  /** Resolves to nothing where the address is taken. */
  async create(
    id: string,
    changes: Changes & { email: string; password: string; password_hash?: string },
  ): Promise<User | undefined> {
    const { email, role = "authenticated", password, password_hash } = changes;
    const encrypted_password = password_hash ?? await this.#hash(password);
    const created = await this.#asAuth(async (sql) => {
      const [{ taken }] = await sql<{ taken: boolean }[]>`
        select exists (select from auth.users where lower(email) = ${email} and not is_sso_user)
            or exists (select from auth.identities where email = ${email}) as taken`;
      if (taken) return false;
      const instance_id = "00000000-0000-0000-0000-000000000000";
      const row = { id, instance_id, aud: "authenticated", role, email, encrypted_password };
      const metadata = { raw_user_meta_data: {}, raw_app_meta_data: { provider: "email", providers: ["email"] } };
      await sql`insert into auth.users ${sql({ ...row, ...columnsOf(changes, metadata) })}`;
      await saveIdentity(sql, id, { email });
      return true;
    });
    return created ? await this.find(id) : undefined;
  }

  async update(id: string, changes: Changes): Promise<User | undefined> {
    const { email, role, password, email_confirm = false } = changes;
    const encrypted_password = password === undefined ? undefined : await this.#hash(password);
    await this.#asAuth(async (sql) => {
      const [row] = await sql<Row[]>`select * from auth.users where id = ${id} for update`;
      const columns = { ...defined({ email, role, encrypted_password }), ...columnsOf(changes, row) };
      await sql`update auth.users set ${sql({ ...columns, updated_at: new Date().toISOString() })} where id = ${id}`;
      if (email) await saveIdentity(sql, id, { email, email_verified: email_confirm });
      if (encrypted_password) await endSessions(sql, id);
    });
    return await this.find(id);
  }

  /** With everything that refers to the user. */
  async delete(id: string): Promise<void> {
    await this.#asAuth((sql) => sql`delete from auth.users where id = ${id}`);
  }

  /** Nobody can log in as the user any more, nor see who it was; what refers to it stays. */
  async softDelete(id: string): Promise<void> {
    await this.#asAuth(async (sql) => {
      const obscured = (value: postgres.PendingQuery<postgres.Row[]>) =>
        sql`
        rtrim(translate(encode(sha256(convert_to(id || ${value}, 'UTF8')), 'base64'), '+/', '-_'), '=')`;
      await sql`
        update auth.users set
          email = ${obscured(sql`coalesce(email, '')`)}, phone = left(${obscured(sql`coalesce(phone, '')`)}, 15),
          email_change = ${obscured(sql`coalesce(email_change, '')`)},
          phone_change = left(${obscured(sql`coalesce(phone_change, '')`)}, 15),
          encrypted_password = null, confirmation_token = null, recovery_token = null,
          email_change_token_current = null, email_change_token_new = null, phone_change_token = null,
          raw_user_meta_data = '{}', raw_app_meta_data = '{}', deleted_at = now(), updated_at = now()
        where id = ${id} and deleted_at is null`;
      await sql`
        update auth.identities set identity_data = '{}', provider_id = ${obscured(sql`provider || ':' || provider_id`)}
        where user_id = ${id} and identity_data <> '{}'`;
      await endSessions(sql, id);
    });
  }

  async isBanned(id: string): Promise<boolean> {
    return await this.#anyBanned(this.sql`id = ${id}`);
  }

  async emailIsBanned(email: unknown): Promise<boolean> {
    return await this.#anyBanned(
      this.sql`lower(email) = ${`${email}`.toLowerCase()} and encrypted_password is not null`,
    );
  }

  /** Of a refresh token. */
  async holderIsBanned(token: unknown): Promise<boolean> {
    return await this.#anyBanned(this.sql`id in (select user_id from auth.refresh_tokens where token = ${`${token}`})`);
  }

  async #anyBanned(condition: postgres.PendingQuery<postgres.Row[]>): Promise<boolean> {
    const rows = await this.sql`select from auth.users where ${condition} and banned_until > now()`;
    return rows.length > 0;
  }

  async #hash(password: string): Promise<string> {
    const [{ hash }] = await this.sql`select extensions.crypt(${password}, extensions.gen_salt('bf', 10)) as hash`;
    return hash;
  }

  /** With no more rights than GoTrue has: what a trigger of ours could not do there fails here. */
  async #asAuth<T>(work: (sql: postgres.TransactionSql) => T | Promise<T>): Promise<T> {
    return await this.sql.begin(async (sql) => {
      await sql`set local role supabase_auth_admin`;
      return await work(sql);
    }) as T;
  }
}

/** The columns that creating and updating share. */
function columnsOf(
  { email_confirm, user_metadata, app_metadata, ban_ms }: Changes,
  row: { raw_user_meta_data: Metadata | null; raw_app_meta_data: Metadata | null },
) {
  return defined({
    raw_user_meta_data: merged(row.raw_user_meta_data, user_metadata, email_confirm ? { email_verified: true } : {}),
    raw_app_meta_data: merged(row.raw_app_meta_data, app_metadata),
    email_confirmed_at: email_confirm ? new Date().toISOString() : undefined,
    banned_until: ban_ms === undefined ? undefined : ban_ms === 0 ? null : new Date(Date.now() + ban_ms).toISOString(),
  });
}

function merged(...parts: (Metadata | null | undefined)[]): postgres.JSONValue {
  const all = Object.assign({}, ...parts);
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null)) as postgres.JSONValue;
}

function defined<T extends object>(values: T): T {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T;
}

async function saveIdentity(
  sql: postgres.TransactionSql,
  id: string,
  about: { email: string; email_verified?: boolean },
) {
  const data = { sub: id, email_verified: false, phone_verified: false, ...about };
  await sql`
    insert into auth.identities (id, provider, provider_id, user_id, identity_data, last_sign_in_at)
    values (${crypto.randomUUID()}, 'email', ${id}, ${id}, ${sql.json(data)}, now())
    on conflict (provider, provider_id) do update set identity_data = identities.identity_data || ${sql.json(about)}`;
}

async function endSessions(sql: postgres.TransactionSql, id: string): Promise<void> {
  await sql`delete from auth.sessions where user_id = ${id}`;
}

/** Columns that are null are absent. */
function userOf(row: Row, identities: Row[] | null): User {
  const shown = [
    ...["email_confirmed_at", "invited_at", "phone_confirmed_at", "confirmation_sent_at", "confirmed_at"],
    ...["recovery_sent_at", "email_change_sent_at", "phone_change_sent_at", "reauthentication_sent_at"],
    ...["last_sign_in_at", "banned_until", "deleted_at"],
  ].filter((name) => row[name] !== null).map((name) => [name, row[name]]);
  return {
    ...{ id: row.id, aud: row.aud, role: row.role, email: row.email ?? "", phone: row.phone ?? "" },
    ...Object.fromEntries(shown),
    ...row.email_change && { new_email: row.email_change },
    ...row.phone_change && { new_phone: row.phone_change },
    app_metadata: row.raw_app_meta_data ?? {},
    user_metadata: row.raw_user_meta_data ?? {},
    identities:
      identities?.map(({ id, provider_id, ...identity }) => ({ identity_id: id, id: provider_id, ...identity })) ??
        null,
    ...{ created_at: row.created_at, updated_at: row.updated_at, is_anonymous: row.is_anonymous },
  };
}
