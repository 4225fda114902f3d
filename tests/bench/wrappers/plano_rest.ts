import { PlanoRest } from "../peers/rest.ts";
import { wrap } from "../wrap.ts";

export default wrap(PlanoRest);
