/** Corrects the inserts that @supabase/lite builds. */
import {
  type ColumnNode,
  ColumnUpdateNode,
  DefaultInsertValueNode,
  type KyselyPlugin,
  type OnConflictNode,
  type OperationNode,
  OperationNodeTransformer,
  ReferenceNode,
  type RootOperationNode,
  TableNode,
  ValueListNode,
  ValueNode,
  ValuesNode,
} from "kysely";

/** Stands in a payload for the default of its column, which JSON cannot say. No text of Postgres holds a NUL. */
export const DEFAULT = "\0default";

class Transformer extends OperationNodeTransformer {
  /** PostgREST sets every column of the payload, also those that conflict: that takes the right to update them. */
  override transformOnConflict(node: OnConflictNode): OnConflictNode {
    if (!node.updates || !node.columns) return node;
    const name = (column: OperationNode) => (column as ColumnNode).column.name;
    const others = node.updates.filter(({ column }) => !node.columns!.some((c) => name(c) === name(column)));
    const excluded = node.columns.map((column) =>
      ColumnUpdateNode.create(column, ReferenceNode.create(column, TableNode.create("excluded")))
    );
    return { ...node, updates: [...excluded, ...others] };
  }

  override transformValues(node: ValuesNode): ValuesNode {
    return ValuesNode.create(node.values.map((row) => {
      if (row.kind === "ValueListNode" || !row.values.includes(DEFAULT)) return row;
      return ValueListNode.create(
        row.values.map((value) => value === DEFAULT ? DefaultInsertValueNode.create() : ValueNode.create(value)),
      );
    }));
  }
}

export class InsertsAsPostgrest implements KyselyPlugin {
  readonly #transformer = new Transformer();

  transformQuery({ node }: { node: RootOperationNode }): RootOperationNode {
    return node.kind === "InsertQueryNode" ? this.#transformer.transformNode(node) : node;
  }

  transformResult<T>({ result }: { result: T }): Promise<T> {
    return Promise.resolve(result);
  }
}
