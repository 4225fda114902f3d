import { JsonbRest } from "../peers/rest.ts";
import { wrap } from "../wrap.ts";

export default wrap(JsonbRest);
