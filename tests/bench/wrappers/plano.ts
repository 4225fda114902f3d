import { Plano } from "../peers/plano.ts";
import { wrap } from "../wrap.ts";

export default wrap(Plano);
