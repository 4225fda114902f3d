import { Jsonb } from "../peers/jsonb.ts";
import { wrap } from "../wrap.ts";

export default wrap(Jsonb);
