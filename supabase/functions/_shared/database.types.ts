export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  "public": {
    Tables: {
      "conversation_messages": {
        Row: {
          "author": string;
          "content": string | null;
          "conversation_id": string;
          "created_at": string;
          "function_call": Json | null;
          "id": string;
          "item": Json | null;
          "item_id": string | null;
          "metadata": NonNullable<Json>;
          "model": string | null;
          "name": string | null;
          "parts": Json | null;
          "role": string | null;
          "sequence_order": number;
          "source": Json | null;
          "status": string;
          "token_count": number | null;
          "tool_call_id": string | null;
          "tool_calls": Json | null;
          "type": string;
          "usage": Json | null;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "author"?: string;
          "content"?: string | null;
          "conversation_id": string;
          "created_at"?: string;
          "function_call"?: Json | null;
          "id"?: string;
          "item"?: Json | null;
          "item_id"?: string | null;
          "metadata"?: NonNullable<Json>;
          "model"?: string | null;
          "name"?: string | null;
          "parts"?: Json | null;
          "role"?: string | null;
          "sequence_order"?: number;
          "source"?: Json | null;
          "status"?: string;
          "token_count"?: number | null;
          "tool_call_id"?: string | null;
          "tool_calls"?: Json | null;
          "type"?: string;
          "usage"?: Json | null;
          "user_id"?: string;
        };
        Update: {
          "author"?: string;
          "content"?: string | null;
          "conversation_id"?: string;
          "created_at"?: string;
          "function_call"?: Json | null;
          "id"?: string;
          "item"?: Json | null;
          "item_id"?: string | null;
          "metadata"?: NonNullable<Json>;
          "model"?: string | null;
          "name"?: string | null;
          "parts"?: Json | null;
          "role"?: string | null;
          "sequence_order"?: number;
          "source"?: Json | null;
          "status"?: string;
          "token_count"?: number | null;
          "tool_call_id"?: string | null;
          "tool_calls"?: Json | null;
          "type"?: string;
          "usage"?: Json | null;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "conversation_messages_conversation_id_fkey";
            columns: ["user_id", "conversation_id"];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: ["user_id", "id"];
          },
        ];
      };
      "conversation_states": {
        Row: {
          "after_sequence": number;
          "conversation_id": string;
          "created_at": number;
          "history_hash": string | null;
          "input_sequence": number;
          "model": string;
          "previous_response_id": string | null;
          "provider": string;
          "request_hash": string;
          "response_id": string;
          "sequence_order": number;
          "updated_at": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "after_sequence": number;
          "conversation_id": string;
          "created_at"?: number;
          "history_hash"?: string | null;
          "input_sequence": number;
          "model": string;
          "previous_response_id"?: string | null;
          "provider": string;
          "request_hash": string;
          "response_id": string;
          "sequence_order": number;
          "updated_at"?: string;
          "user_id": string;
        };
        Update: {
          "after_sequence"?: number;
          "conversation_id"?: string;
          "created_at"?: number;
          "history_hash"?: string | null;
          "input_sequence"?: number;
          "model"?: string;
          "previous_response_id"?: string | null;
          "provider"?: string;
          "request_hash"?: string;
          "response_id"?: string;
          "sequence_order"?: number;
          "updated_at"?: string;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "conversation_states_conversation_id_fkey";
            columns: ["user_id", "conversation_id"];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: ["user_id", "id"];
          },
        ];
      };
      "conversations": {
        Row: {
          "archived_at": string | null;
          "created_at": string;
          "deleted_at": string | null;
          "expires_at": string | null;
          "fork_sequence": number | null;
          "id": string;
          "last_sequence_order": number;
          "metadata": NonNullable<Json>;
          "parent_id": string | null;
          "pinned": boolean;
          "summary": string | null;
          "title": string | null;
          "updated_at": string;
          "user_id": string;
          "video_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "archived_at"?: string | null;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "expires_at"?: string | null;
          "fork_sequence"?: number | null;
          "id"?: string;
          "last_sequence_order"?: number;
          "metadata"?: NonNullable<Json>;
          "parent_id"?: string | null;
          "pinned"?: boolean;
          "summary"?: string | null;
          "title"?: string | null;
          "updated_at"?: string;
          "user_id"?: string;
          "video_id"?: string | null;
        };
        Update: {
          "archived_at"?: string | null;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "expires_at"?: string | null;
          "fork_sequence"?: number | null;
          "id"?: string;
          "last_sequence_order"?: number;
          "metadata"?: NonNullable<Json>;
          "parent_id"?: string | null;
          "pinned"?: boolean;
          "summary"?: string | null;
          "title"?: string | null;
          "updated_at"?: string;
          "user_id"?: string;
          "video_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "conversations_parent_id_fkey";
            columns: ["parent_id"];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "conversations_video_id_fkey";
            columns: ["user_id", "video_id"];
            isOneToOne: false;
            referencedRelation: "videos";
            referencedColumns: ["user_id", "id"];
          },
        ];
      };
      "document_failures": {
        Row: {
          "collection": string;
          "creation_utc": string;
          "data": NonNullable<Json>;
          "failed_at": string;
          "id": string;
          "owner_id": string;
          "reason": string;
          "sort_at": string;
          "version": string | null;
        };
        ComputedFields: never;
        Insert: {
          "collection": string;
          "creation_utc": string;
          "data": NonNullable<Json>;
          "failed_at"?: string;
          "id": string;
          "owner_id": string;
          "reason": string;
          "sort_at": string;
          "version"?: string | null;
        };
        Update: {
          "collection"?: string;
          "creation_utc"?: string;
          "data"?: NonNullable<Json>;
          "failed_at"?: string;
          "id"?: string;
          "owner_id"?: string;
          "reason"?: string;
          "sort_at"?: string;
          "version"?: string | null;
        };
        Relationships: [];
      };
      "documents": {
        Row: {
          "collection": string;
          "creation_utc": string;
          "data": NonNullable<Json>;
          "id": string;
          "owner_id": string;
          "sort_at": string;
          "version": string | null;
        };
        ComputedFields: never;
        Insert: {
          "collection": string;
          "creation_utc": string;
          "data": NonNullable<Json>;
          "id": string;
          "owner_id": string;
          "sort_at": string;
          "version"?: string | null;
        };
        Update: {
          "collection"?: string;
          "creation_utc"?: string;
          "data"?: NonNullable<Json>;
          "id"?: string;
          "owner_id"?: string;
          "sort_at"?: string;
          "version"?: string | null;
        };
        Relationships: [];
      };
      "event_logs": {
        Row: {
          "content": NonNullable<Json>;
          "created_at": string;
          "event_type": string;
          "occurred_at": string;
          "sequence": number;
          "session_id": string;
          "source": string | null;
          "trace_id": string | null;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "content": NonNullable<Json>;
          "created_at"?: string;
          "event_type": string;
          "occurred_at"?: string;
          "sequence"?: number;
          "session_id": string;
          "source"?: string | null;
          "trace_id"?: string | null;
          "user_id"?: string;
        };
        Update: {
          "content"?: NonNullable<Json>;
          "created_at"?: string;
          "event_type"?: string;
          "occurred_at"?: string;
          "sequence"?: number;
          "session_id"?: string;
          "source"?: string | null;
          "trace_id"?: string | null;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "event_logs_session_id_fkey";
            columns: ["session_id"];
            isOneToOne: false;
            referencedRelation: "sessions";
            referencedColumns: ["id"];
          },
        ];
      };
      "sessions": {
        Row: {
          "conversation_id": string | null;
          "created_at": string;
          "duration": number | null;
          "end_time": string | null;
          "id": string;
          "last_event_at": string | null;
          "last_sequence": number;
          "metadata": NonNullable<Json>;
          "start_time": string;
          "summary": string | null;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "conversation_id"?: string | null;
          "created_at"?: string;
          "duration"?: never;
          "end_time"?: string | null;
          "id"?: string;
          "last_event_at"?: string | null;
          "last_sequence"?: number;
          "metadata"?: NonNullable<Json>;
          "start_time"?: string;
          "summary"?: string | null;
          "user_id"?: string;
        };
        Update: {
          "conversation_id"?: string | null;
          "created_at"?: string;
          "duration"?: never;
          "end_time"?: string | null;
          "id"?: string;
          "last_event_at"?: string | null;
          "last_sequence"?: number;
          "metadata"?: NonNullable<Json>;
          "start_time"?: string;
          "summary"?: string | null;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "sessions_conversation_id_fkey";
            columns: ["conversation_id"];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: ["id"];
          },
        ];
      };
      "videos": {
        Row: {
          "created_at": string;
          "id": string;
          "title": string | null;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "id"?: string;
          "title"?: string | null;
          "user_id"?: string;
        };
        Update: {
          "created_at"?: string;
          "id"?: string;
          "title"?: string | null;
          "user_id"?: string;
        };
        Relationships: [];
      };
    };
    Views: {
      [_ in never]: never;
    };
    Functions: {
      "append_events": {
        Args: { "p_events": Json; "p_idempotency_key"?: string; "p_session_id": string; "p_user_id"?: string };
        Returns: Json;
      };
      "append_items": {
        Args: { "p_conversation_id": string; "p_idempotency_key"?: string; "p_items": Json; "p_user_id"?: string };
        Returns: Json;
      };
      "append_messages": {
        Args: {
          "p_conversation_id": string;
          "p_expected_sequence"?: number;
          "p_idempotency_key"?: string;
          "p_messages": Json;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "audit_events": {
        Args: {
          "p_after_chunk"?: number;
          "p_after_occurred_at"?: string;
          "p_after_sequence"?: number;
          "p_after_session_id"?: string;
          "p_fold"?: boolean;
          "p_from"?: string;
          "p_limit"?: number;
          "p_of_user_id"?: string;
          "p_query"?: string;
          "p_to"?: string;
          "p_types"?: (string)[];
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "call_once": { Args: { "p_arguments": Json; "p_function": string; "p_idempotency_key": string }; Returns: Json };
      "count_documents": { Args: { "p_collection": string; "p_filters"?: Json; "p_user_id"?: string }; Returns: Json };
      "create_conversation": {
        Args: { "p_conversation"?: Json; "p_idempotency_key"?: string; "p_messages"?: Json; "p_user_id"?: string };
        Returns: Json;
      };
      "create_conversation_of_items": {
        Args: { "p_idempotency_key"?: string; "p_items"?: Json; "p_metadata"?: Json; "p_user_id"?: string };
        Returns: Json;
      };
      "create_document_index": { Args: { "p_collection": string; "p_field": string }; Returns: Json };
      "delete_conversation": { Args: { "p_conversation_id": string; "p_user_id"?: string }; Returns: undefined };
      "delete_document": { Args: { "p_collection": string; "p_filters": Json; "p_user_id"?: string }; Returns: Json };
      "delete_documents": { Args: { "p_collection": string; "p_filters": Json; "p_user_id"?: string }; Returns: Json };
      "delete_item": {
        Args: { "p_conversation_id": string; "p_item_id": string; "p_user_id"?: string };
        Returns: Json;
      };
      "delete_message": {
        Args: { "p_conversation_id": string; "p_message_id": string; "p_user_id"?: string };
        Returns: undefined;
      };
      "delete_response": { Args: { "p_response_id": string; "p_user_id"?: string }; Returns: undefined };
      "drop_collection": { Args: { "p_collection": string; "p_user_id"?: string }; Returns: Json };
      "drop_document_index": { Args: { "p_collection": string; "p_field": string }; Returns: undefined };
      "end_session": { Args: { "p_session_id": string; "p_summary"?: string; "p_user_id"?: string }; Returns: Json };
      "erase_conversations": { Args: { "p_user_id"?: string }; Returns: Json };
      "erase_user": { Args: { "p_user_id"?: string }; Returns: Json };
      "export_page": { Args: { "p_cursor"?: Json; "p_user_id"?: string }; Returns: Json };
      "export_user_page": { Args: { "p_cursor"?: Json; "p_user_id"?: string }; Returns: Json };
      "fail_document": {
        Args: { "p_collection": string; "p_id": string; "p_reason": string; "p_user_id"?: string };
        Returns: Json;
      };
      "find_document": {
        Args: { "p_collection": string; "p_filters"?: Json; "p_sort"?: Json; "p_user_id"?: string };
        Returns: Json;
      };
      "find_documents": {
        Args: {
          "p_collection": string;
          "p_count"?: boolean;
          "p_cursor"?: Json;
          "p_filters"?: Json;
          "p_limit"?: number;
          "p_sort"?: string;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "finish_import": { Args: { "p_ids": Json; "p_user_id"?: string }; Returns: Json };
      "fork_conversation": {
        Args: { "p_at": number; "p_conversation_id": string; "p_idempotency_key"?: string; "p_user_id"?: string };
        Returns: Json;
      };
      "get_collection_version": { Args: { "p_collection": string; "p_user_id"?: string }; Returns: Json };
      "get_context": {
        Args: {
          "p_begin"?: string;
          "p_conversation_id": string;
          "p_explain"?: boolean;
          "p_format"?: string;
          "p_max_messages"?: number;
          "p_max_tokens": number;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "get_conversation": { Args: { "p_conversation_id": string; "p_user_id"?: string }; Returns: Json };
      "get_erasure": { Args: { "p_erasure_id": string; "p_scope": string; "p_user_id"?: string }; Returns: Json };
      "get_item": { Args: { "p_conversation_id": string; "p_item_id": string; "p_user_id"?: string }; Returns: Json };
      "get_openai_response": { Args: { "p_response_id": string; "p_user_id"?: string }; Returns: Json };
      "get_quotas": { Args: { "p_user_id"?: string }; Returns: Json };
      "get_response": { Args: { "p_items"?: boolean; "p_response_id": string; "p_user_id"?: string }; Returns: Json };
      "get_retention_policies": { Args: Record<PropertyKey, never>; Returns: Json };
      "get_session": { Args: { "p_session_id": string; "p_user_id"?: string }; Returns: Json };
      "get_session_context": {
        Args: { "p_max_sessions"?: number; "p_max_tokens"?: number; "p_of_user_id"?: string; "p_user_id"?: string };
        Returns: Json;
      };
      "health": { Args: Record<PropertyKey, never>; Returns: Json };
      "import_conversation": {
        Args: { "p_conversation": Json; "p_messages"?: Json; "p_user_id"?: string };
        Returns: Json;
      };
      "insert_documents": {
        Args: { "p_collection": string; "p_documents": Json; "p_idempotency_key"?: string; "p_user_id"?: string };
        Returns: Json;
      };
      "list_collections": { Args: { "p_after"?: string; "p_limit"?: number; "p_user_id"?: string }; Returns: Json };
      "list_conversations": {
        Args: {
          "p_archived"?: string;
          "p_before_id"?: string;
          "p_before_updated_at"?: string;
          "p_limit"?: number;
          "p_metadata"?: Json;
          "p_user_id"?: string;
          "p_video_id"?: string;
        };
        Returns: Json;
      };
      "list_document_indexes": { Args: { "p_collection": string }; Returns: Json };
      "list_events": {
        Args: {
          "p_after"?: number;
          "p_limit"?: number;
          "p_session_id": string;
          "p_types"?: (string)[];
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "list_failures": {
        Args: { "p_after"?: string; "p_collection": string; "p_limit"?: number; "p_user_id"?: string };
        Returns: Json;
      };
      "list_input_items": {
        Args: {
          "p_after"?: string;
          "p_limit"?: number;
          "p_order"?: string;
          "p_response_id": string;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "list_items": {
        Args: {
          "p_after"?: string;
          "p_conversation_id": string;
          "p_limit"?: number;
          "p_order"?: string;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "list_messages": {
        Args: {
          "p_after"?: number;
          "p_before"?: number;
          "p_conversation_id": string;
          "p_format"?: string;
          "p_limit"?: number;
          "p_order"?: string;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "list_retention_runs": { Args: { "p_before"?: number; "p_limit"?: number }; Returns: Json };
      "list_sessions": {
        Args: {
          "p_before_id"?: string;
          "p_before_start_time"?: string;
          "p_from"?: string;
          "p_limit"?: number;
          "p_of_user_id"?: string;
          "p_to"?: string;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "merge_response": { Args: { "p_body": Json; "p_response_id": string; "p_user_id"?: string }; Returns: Json };
      "open_session": {
        Args: { "p_idempotency_key"?: string; "p_session"?: Json; "p_user_id"?: string };
        Returns: Json;
      };
      "put_response": { Args: { "p_response": Json; "p_response_id": string; "p_user_id"?: string }; Returns: Json };
      "replace_metadata": {
        Args: { "p_conversation_id": string; "p_metadata": Json; "p_user_id"?: string };
        Returns: Json;
      };
      "restore_document": { Args: { "p_collection": string; "p_id": string; "p_user_id"?: string }; Returns: Json };
      "retention_preview": { Args: { "p_now"?: string }; Returns: Json };
      "search_messages": {
        Args: {
          "p_after_created_at"?: string;
          "p_after_id"?: string;
          "p_after_score"?: number;
          "p_limit"?: number;
          "p_query": string;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "session_analytics": {
        Args: {
          "p_bucket"?: string;
          "p_from"?: string;
          "p_of_user_id"?: string;
          "p_time_zone"?: string;
          "p_to"?: string;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
      "set_collection_version": {
        Args: { "p_collection": string; "p_expected_version"?: string; "p_user_id"?: string; "p_version": string };
        Returns: Json;
      };
      "take_unsummarized": {
        Args: { "p_lease_seconds"?: number; "p_limit"?: number; "p_user_id"?: string };
        Returns: Json;
      };
      "update_conversation": {
        Args: { "p_changes": Json; "p_conversation_id": string; "p_user_id"?: string };
        Returns: Json;
      };
      "update_document": {
        Args: {
          "p_collection": string;
          "p_filters": Json;
          "p_if_version"?: string;
          "p_params": Json;
          "p_upsert"?: boolean;
          "p_user_id"?: string;
        };
        Returns: Json;
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof (
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
    )
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals } ? (
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
  )[TableName] extends {
    Row: infer R;
  } ? R
  : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
      Row: infer R;
    } ? R
    : never
  : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Insert: infer I;
  } ? I
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I;
    } ? I
    : never
  : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Update: infer U;
  } ? U
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U;
    } ? U
    : never
  : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never;

export const Constants = {
  "public": {
    Enums: {},
  },
} as const;
