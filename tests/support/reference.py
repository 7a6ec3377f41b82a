"""The reference's three scenarios and three cases, word for word (section 4.3 and 4.4), each over every store.

Only the second-long sleep of the monitoring loop is shorter.
"""

# The reference's own layout stays as it is.
# fmt: off
# ruff: noqa

import asyncio
import time

from taskctx_sql import TaskContext, task_context


async def scenario_1():
    # Create document processing task context
    doc_context = TaskContext(
        data={
            "user_id": "doc_processor_001",
            "chat_id": "doc_session_abc123",
            "metadata": {
                "document_type": "pdf",
                "language": "zh-CN",
                "processing_mode": "batch"
            }
        },
        task_dir="/var/lib/aiecs/tasks"
    )

    # Track document processing process
    doc_context.add_context_update("message", "Starting document processing", {"source": "system"})
    doc_context.track_file_operation("input.pdf", "read", "user")
    doc_context.track_model_usage("gpt-4", "openai", "text_extraction")

    # Add processing resources
    with open("input.pdf", "rb") as f:
        doc_context.add_resource("pdf_file", f)
        # Process document...

    # Optimize context
    doc_context.optimize_context(max_size=2000)
    return doc_context


async def scenario_2():
    # Create data science task context
    ds_context = TaskContext(
        data={
            "user_id": "data_scientist_001",
            "chat_id": "ml_pipeline_session",
            "metadata": {
                "project": "customer_segmentation",
                "algorithm": "kmeans",
                "dataset_size": "large"
            }
        }
    )

    # Track machine learning process
    ds_context.add_context_update("message", "Starting data preprocessing", {"step": "preprocessing"})
    ds_context.track_file_operation("customer_data.csv", "read", "pandas")
    ds_context.track_model_usage("sklearn", "scikit-learn", "clustering")

    # Track model training
    ds_context.add_context_update("message", "Starting model training", {"step": "training"})
    ds_context.track_model_usage("kmeans", "sklearn", "clustering")

    # Save context history
    await ds_context._save_context_history()
    return ds_context


async def scenario_3(chat_data):
    # Create chatbot task context
    chat_context = TaskContext(
        data={
            "user_id": "user_456",
            "chat_id": "chat_session_xyz789",
            "metadata": {
                "bot_type": "customer_service",
                "language": "en",
                "model": "gpt-4"
            }
        }
    )

    # Track conversation process
    chat_context.add_context_update("message", "User input: Hello", {"source": "user"})
    chat_context.track_model_usage("gpt-4", "openai", "chat_completion")
    chat_context.add_context_update("message", "AI reply: Hi! How can I help you?", {"source": "ai"})

    # Track file operations
    chat_context.track_file_operation("conversation_log.json", "write", "logging")

    # Async context management
    async with task_context(chat_data, task_dir="./chat_tasks") as context:
        # Handle chat logic...
        pass
    return chat_context, context


async def data_analysis_pipeline():
    """Data analysis pipeline example"""
    # Create analysis context
    context = TaskContext(
        data={
            "user_id": "analyst_001",
            "chat_id": "analysis_session_001",
            "metadata": {
                "pipeline_type": "sales_analysis",
                "data_source": "database",
                "output_format": "excel"
            }
        },
        task_dir="./analysis_tasks"
    )
    
    try:
        # Step 1: Data loading
        context.add_context_update("message", "Starting data loading", {"step": "data_loading"})
        context.track_file_operation("sales_data.csv", "read", "pandas")
        
        # Step 2: Data cleaning
        context.add_context_update("message", "Starting data cleaning", {"step": "data_cleaning"})
        context.track_model_usage("pandas", "python", "data_processing")
        
        # Step 3: Data analysis
        context.add_context_update("message", "Starting data analysis", {"step": "analysis"})
        context.track_model_usage("numpy", "python", "statistical_analysis")
        
        # Step 4: Result output
        context.add_context_update("message", "Generating analysis report", {"step": "reporting"})
        context.track_file_operation("analysis_report.xlsx", "write", "openpyxl")
        
        # Optimize context
        context.optimize_context(max_size=1500)
        
        return context.to_dict()
        
    except Exception as e:
        context.add_context_update("error", str(e), {"step": "pipeline_error"})
        raise
    finally:
        # Cleanup resources
        for resource_name, resource in context.resources.items():
            if hasattr(resource, 'close'):
                resource.close()


async def real_time_monitoring():
    """Real-time monitoring system example"""
    # Create monitoring context
    context = TaskContext(
        data={
            "user_id": "monitor_001",
            "chat_id": "monitoring_session",
            "metadata": {
                "monitoring_type": "system_health",
                "alert_threshold": 0.8,
                "check_interval": 60
            }
        }
    )
    
    # Track monitoring process
    context.add_context_update("message", "Starting system monitoring", {"source": "monitor"})
    
    # Simulate monitoring loop
    for i in range(10):
        # Check system status
        context.add_context_update("monitoring", f"Check #{i+1}", {"timestamp": time.time()})
        
        # Track resource usage
        context.track_model_usage("system_monitor", "internal", "health_check")
        
        # Simulate file operations
        context.track_file_operation(f"monitor_log_{i}.txt", "write", "logging")
        
        # Optimize context (after every 5 checks)
        if (i + 1) % 5 == 0:
            context.optimize_context(max_size=1000)
        
        await asyncio.sleep(0.001)
    
    return context.to_dict()


async def batch_processing_manager():
    """Batch processing task management example"""
    # Create batch processing context
    context = TaskContext(
        data={
            "user_id": "batch_processor_001",
            "chat_id": "batch_session_001",
            "metadata": {
                "batch_size": 1000,
                "processing_mode": "parallel",
                "output_format": "json"
            }
        }
    )
    
    # Track batch processing process
    context.add_context_update("message", "Starting batch processing task", {"batch_id": "batch_001"})
    
    # Simulate batch processing
    for batch_num in range(5):
        batch_id = f"batch_{batch_num + 1}"
        context.add_context_update("batch", f"Processing batch {batch_id}", {"batch_id": batch_id})
        
        # Track file operations
        context.track_file_operation(f"input_{batch_id}.csv", "read", "batch_processor")
        context.track_file_operation(f"output_{batch_id}.json", "write", "batch_processor")
        
        # Track model usage
        context.track_model_usage("batch_processor", "internal", "data_processing")
        
        # Periodically optimize context
        if (batch_num + 1) % 2 == 0:
            context.optimize_context(max_size=2000)
    
    # Save final context
    await context._save_context_history()
    
    return context.to_dict()
