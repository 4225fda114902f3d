import { Limit } from "../peers/limit.ts";
import { wrap } from "../wrap.ts";

export default wrap(Limit);
